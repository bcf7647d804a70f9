# Checks of the pure C rooms, which need a compiler and libraries but no
# server.  Included by the top Makefile.

CORE_SRC   = $(wildcard src/codec/*.c src/crypto/*.c)
CORE_FLAGS = -std=c99 -Isrc -g -Wall -Wextra -Wshadow -Wconversion -Werror
CORE_LIBS  = -lzstd -lcrypto

build:
	mkdir -p $@
