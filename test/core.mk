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
#   check-core-portable  the tests, fewer sizes, as compiled without optimisation, by
#                        another compiler, and for aarch64 (under qemu) where
#                        its compiler is installed: golden models and frames come out
#                        bit by bit the same
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

CORE_HEADERS = $(wildcard src/codec/*.h src/crypto/*.h)
UNIT_HEADERS = $(CORE_HEADERS) $(wildcard test/unit/*.h)
COUNT_SRC    = test/unit/count.c
UNIT_SRC     = $(filter-out $(COUNT_SRC),$(wildcard test/unit/*.c))
FUZZ_SRC     = $(wildcard test/fuzz/*.c)
FUZZ_NAMES   = $(patsubst test/fuzz/fuzz_%.c,%,$(FUZZ_SRC))

# The functions that test/unit/test_workspace.c makes fail
UNIT_COMMA = ,
UNIT_WRAP  = malloc ZSTD_createCCtx ZSTD_createDCtx ZSTD_CCtx_setParameter \
	ZSTD_DCtx_setParameter ZSTD_compress2 ZSTD_CCtx_setPledgedSrcSize \
	ZSTD_compressStream2 ZSTD_decompressDCtx
UNIT_WRAPS = $(patsubst %,-Wl$(UNIT_COMMA)--wrap=%,$(UNIT_WRAP))
UNIT_LINK  = $(UNIT_WRAPS) $(CORE_LIBS)

# Debian: apt-get install gcc-aarch64-linux-gnu qemu-user, and ARM_ROOT a folder with
# the unpacked packages libzstd1, libzstd-dev and libssl-dev of arm64 (nbmf_arm64 in
# test/tools/setup.sh makes one), or empty where they are installed
CORE_ARM = aarch64-linux-gnu-gcc
QEMU_ARM = qemu-aarch64
ARM_ROOT =

SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

# How check-core-portable compiles
PORTABLE_gcc-O0   = $(CORE_CC) -O0
PORTABLE_clang-O3 = $(CORE_CLANG) -O3
PORTABLE_arm-O2   = $(CORE_ARM) -O2 -isystem $(ARM_ROOT)/usr/include \
	-isystem $(ARM_ROOT)/usr/include/aarch64-linux-gnu
PORTABLE_BUILDS   = gcc-O0 clang-O3 \
	$(if $(shell command -v $(CORE_ARM) && command -v $(QEMU_ARM)),arm-O2)

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

check-core-portable: $(PORTABLE_BUILDS:%=check-core-%)
	@$(if $(filter arm-O2,$(PORTABLE_BUILDS)),true,echo "aarch64: not installed, skipped")

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

# $(call core_library,NAME,COMMAND): build/NAME/core.a, the whole core as COMMAND
# compiles it.  All programs that want the same flags link with one library, since
# the neural codec takes the sanitizers' compilers over a minute; its two largest
# files compile side by side under make -j.
define core_library
build/$(1)/core.a: $(patsubst src/%.c,build/$(1)/%.o,$(CORE_SRC))
	rm -f $$@
	ar rcs $$@ $$^

build/$(1)/%.o: src/%.c $(CORE_HEADERS)
	@mkdir -p $$(@D)
	$(2) $(CORE_FLAGS) -c -o $$@ $$<
endef

CORE_UNIT     = $(CORE_CC) -O1 $(SANITIZE)
CORE_VALGRIND = $(CORE_CC) -O1
CORE_COUNT    = $(CORE_CC) -O2
CORE_FUZZ     = $(CORE_CLANG) -O1 $(SANITIZE)

$(eval $(call core_library,core-unit,$(CORE_UNIT)))
$(eval $(call core_library,core-valgrind,$(CORE_VALGRIND)))
$(eval $(call core_library,core-count,$(CORE_COUNT)))
$(eval $(call core_library,core-fuzz,$(CORE_FUZZ) -fsanitize=fuzzer-no-link))

build/unit: build/core-unit/core.a $(UNIT_SRC) $(UNIT_HEADERS)
	$(CORE_UNIT) $(CORE_FLAGS) -Itest/unit -o $@ $(UNIT_SRC) $< $(UNIT_LINK)

build/unit-valgrind: build/core-valgrind/core.a $(UNIT_SRC) $(UNIT_HEADERS)
	$(CORE_VALGRIND) $(CORE_FLAGS) -Itest/unit -o $@ $(UNIT_SRC) $< $(UNIT_LINK)

build/count: build/core-count/core.a $(COUNT_SRC) test/unit/content.c $(UNIT_HEADERS)
	$(CORE_COUNT) $(CORE_FLAGS) -Itest/unit -o $@ $(COUNT_SRC) test/unit/content.c $< $(CORE_LIBS)

build/fuzz-%: test/fuzz/fuzz_%.c build/core-fuzz/core.a $(UNIT_HEADERS) test/fuzz/require.h
	$(CORE_FUZZ) -fsanitize=fuzzer $(CORE_FLAGS) -Itest/unit -o $@ \
		$< build/core-fuzz/core.a $(CORE_LIBS)

# $(call portable_check,BUILD,RUN,LINK): check-core-BUILD, the tests in one such build
define portable_check
$(call core_library,core-$(1),$(PORTABLE_$(1)))

build/unit-$(1): build/core-$(1)/core.a $(UNIT_SRC) $(UNIT_HEADERS)
	$(PORTABLE_$(1)) $(CORE_FLAGS) -Itest/unit -o $$@ $(UNIT_SRC) $$< $(UNIT_WRAPS) $(3)

.PHONY: check-core-$(1)
check-core-$(1): build/unit-$(1)
	@$(2) build/unit-$(1) --quick test/golden >build/unit-$(1).log || \
		{ echo "$(1):"; grep -E '^(not ok|#)' build/unit-$(1).log; exit 1; }
	@echo "$(1): $$$$(tail -n 1 build/unit-$(1).log)"
endef

$(foreach name,gcc-O0 clang-O3,\
	$(eval $(call portable_check,$(name),,$(CORE_LIBS))))
# libcrypto as an archive, so that it brings no library of its own to be found
$(eval $(call portable_check,arm-O2,$(QEMU_ARM) -L /usr/aarch64-linux-gnu \
	-E LD_LIBRARY_PATH=$(ARM_ROOT)/usr/lib/aarch64-linux-gnu,\
	-L$(ARM_ROOT)/usr/lib/aarch64-linux-gnu -lzstd -l:libcrypto.a))

build:
	mkdir -p $@
