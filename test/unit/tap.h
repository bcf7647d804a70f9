/*
 * tap.h
 *		The smallest harness that serves: named tests, checks inside them, and
 *		output in the manner of the Test Anything Protocol.
 *
 * A test is a function without arguments.  A failed check is reported with its
 * place and a message, and the test goes on, so that one run shows all that is
 * wrong; only the first few failures of a test are printed.
 */
#ifndef NBMF_TEST_TAP_H
#define NBMF_TEST_TAP_H

#include <stdbool.h>

typedef void (*TapTest)(void);

#if defined(__GNUC__)
#define TAP_PRINTF __attribute__((format(printf, 5, 6)))
#else
#define TAP_PRINTF
#endif

extern void tap_run(const char *name, TapTest test);
extern int tap_finish(void);
extern bool tap_check(bool ok, const char *file, int line, const char *what, const char *fmt,
					  ...) TAP_PRINTF;

/* CHECK(condition, "message about the input", ...); is true when it holds */
#define CHECK(cond, ...) tap_check((cond), __FILE__, __LINE__, #cond, __VA_ARGS__)

#endif /* NBMF_TEST_TAP_H */
