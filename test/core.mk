# Checks of the pure C rooms, which need a compiler and libraries but no
# server.  Included by the top Makefile; works alone as well:
#
#	make -f test/core.mk check-core
#
#   check-core           unit tests with address and undefined behaviour
#                        sanitizers
#   check-core-valgrind  the same tests, fewer sizes, under valgrind, which also
#                        sees what libzstd does
#   check-core-fuzz      the fuzz targets, FUZZ_SECONDS in all
#   check-warnings       both compilers, C99 and C11, every warning an error
#   check-core-portable  the tests, fewer sizes, as compiled by both compilers with
#                        and without optimisation, and for aarch64 (under qemu) where
#                        its compiler and libraries are installed: golden models and
#                        frames come out bit by bit the same
#   check-core-device    the kernels of test/cuda, compiled for the processor, code to the
#                        same bits; test/cuda/run does it on a GPU
#   count-core           instructions of encoding, decoding and the fingerprint of 1 KB

CORE_SRC   = $(wildcard src/codec/*.c src/crypto/*.c)
CORE_FLAGS = -std=c99 -Isrc -g -Wall -Wextra -Wshadow -Wconversion -Werror
CORE_LIBS  = -lzstd -lcrypto

CORE_CC    = gcc
CORE_CLANG = clang
VALGRIND   = valgrind

FUZZ_SECONDS = 60

CORE_HEADERS = $(wildcard src/codec/*.h src/crypto/*.h test/unit/*.h)
COUNT_SRC    = test/unit/count.c
UNIT_SRC     = $(filter-out $(COUNT_SRC),$(wildcard test/unit/*.c))
FUZZ_SRC     = $(wildcard test/fuzz/*.c)
FUZZ_NAMES   = $(patsubst test/fuzz/fuzz_%.c,%,$(FUZZ_SRC))

# The functions that test/unit/test_workspace.c makes fail
UNIT_COMMA = ,
UNIT_WRAP  = malloc ZSTD_createCCtx ZSTD_createDCtx ZSTD_CCtx_setParameter \
	ZSTD_DCtx_setParameter ZSTD_compress2 ZSTD_CCtx_setPledgedSrcSize \
	ZSTD_compressStream2 ZSTD_decompressDCtx
UNIT_LINK  = $(patsubst %,-Wl$(UNIT_COMMA)--wrap=%,$(UNIT_WRAP)) $(CORE_LIBS)

# Debian: dpkg --add-architecture arm64; apt-get install gcc-aarch64-linux-gnu
# qemu-user libzstd-dev:arm64 libssl-dev:arm64
CORE_ARM = aarch64-linux-gnu-gcc
QEMU_ARM = qemu-aarch64

SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

.PHONY: check-core check-core-device check-core-portable check-core-valgrind check-core-fuzz check-warnings count-core

check-core: build/unit
	build/unit test/golden

check-core-valgrind: build/unit-valgrind
	$(VALGRIND) -q --error-exitcode=1 --leak-check=full build/unit-valgrind --quick test/golden

# Each target works on a copy of its corpus, so that the tree does not change
check-core-fuzz: $(patsubst %,build/fuzz-%,$(FUZZ_NAMES))
	@set -e; for name in $(FUZZ_NAMES); do \
		rm -rf build/corpus-$$name; \
		cp -r test/fuzz/corpus/$$name build/corpus-$$name; \
		echo "fuzzing $$name"; \
		build/fuzz-$$name -max_total_time=$$(( $(FUZZ_SECONDS) / $(words $(FUZZ_NAMES)) )) \
			-rss_limit_mb=2048 -timeout=10 -max_len=20000 -print_final_stats=1 \
			-artifact_prefix=build/ build/corpus-$$name >build/fuzz-$$name.log 2>&1 || \
			{ tail -n 60 build/fuzz-$$name.log; exit 1; }; \
		grep -E 'DONE|number_of_executed_units' build/fuzz-$$name.log; \
	done

check-core-portable: | build
	@set -e; for how in '$(CORE_CC) -O0' '$(CORE_CC) -O3' '$(CORE_CLANG) -O0' '$(CORE_CLANG) -O3' \
		'$(CORE_ARM) -O0' '$(CORE_ARM) -O3'; do \
		run=; \
		case $$how in $(CORE_ARM)*) \
			run=$(QEMU_ARM); \
			command -v $(CORE_ARM) >/dev/null && command -v $(QEMU_ARM) >/dev/null || \
				{ echo "$$how: not installed, skipped"; continue; };; \
		esac; \
		echo "$$how"; \
		$$how $(CORE_FLAGS) -Itest/unit -o build/unit-portable $(CORE_SRC) $(UNIT_SRC) $(UNIT_LINK); \
		$$run build/unit-portable --quick test/golden >build/unit-portable.log || \
			{ grep -E '^(not ok|#)' build/unit-portable.log; exit 1; }; \
	done

check-warnings:
	@set -e; for std in c99 c11; do for compiler in $(CORE_CC) $(CORE_CLANG); do \
		echo "$$compiler -std=$$std"; \
		$$compiler $(CORE_FLAGS) -std=$$std -Itest/unit -fsyntax-only \
			$(CORE_SRC) $(UNIT_SRC) $(COUNT_SRC) $(FUZZ_SRC); \
	done; done

check-core-device:
	test/cuda/run --emulate

# --toggle-collect counts inside the function only; --zero-before forgets the
# calls that warmed up
count-core: build/count
	@set -e; result=; for call in encode decode fingerprint; do \
		$(VALGRIND) --tool=callgrind --collect-atstart=no --toggle-collect=nbmf_$$call \
			--zero-before=count_$$call --callgrind-out-file=build/callgrind.$$call \
			build/count 2>build/callgrind.$$call.log || { cat build/callgrind.$$call.log; exit 1; }; \
		count=$$(sed -n 's/^totals: *//p' build/callgrind.$$call); \
		result="$$result$${result:+, }$$call $$count instructions"; \
	done; \
	echo "$$result"

build/unit: $(CORE_SRC) $(UNIT_SRC) $(CORE_HEADERS) | build
	$(CORE_CC) $(CORE_FLAGS) -O1 $(SANITIZE) -Itest/unit -o $@ $(CORE_SRC) $(UNIT_SRC) $(UNIT_LINK)

build/unit-valgrind: $(CORE_SRC) $(UNIT_SRC) $(CORE_HEADERS) | build
	$(CORE_CC) $(CORE_FLAGS) -O1 -Itest/unit -o $@ $(CORE_SRC) $(UNIT_SRC) $(UNIT_LINK)

build/count: $(CORE_SRC) $(COUNT_SRC) test/unit/content.c $(CORE_HEADERS) | build
	$(CORE_CC) $(CORE_FLAGS) -O2 -Itest/unit -o $@ \
		$(CORE_SRC) $(COUNT_SRC) test/unit/content.c $(CORE_LIBS)

build/fuzz-%: test/fuzz/fuzz_%.c $(CORE_SRC) $(CORE_HEADERS) test/fuzz/require.h | build
	$(CORE_CLANG) $(CORE_FLAGS) -O1 -fsanitize=fuzzer $(SANITIZE) -Itest/unit -o $@ \
		$< $(CORE_SRC) $(CORE_LIBS)

build:
	mkdir -p $@
