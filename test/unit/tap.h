/*
 * The Test Anything Protocol, as much of it as prove needs: a line a case, the plan at the end.
 */
#ifndef WH_TEST_TAP_H
#define WH_TEST_TAP_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/*
 * Leaks are looked for where /proc is mounted, which the sanitizer reads, as in a bare chroot it may
 * not be. An option in the environment would not do: without /proc the sanitizer does not see that.
 */
extern const char *__asan_default_options(void);
const char *
__asan_default_options(void)
{
	return access("/proc/self/maps", R_OK) == 0 ? "" : "detect_leaks=0";
}

static int	tap_cases = 0;
static int	tap_failures = 0;

static inline bool
ok(bool passed, const char *name)
{
	tap_cases++;
	if (!passed)
		tap_failures++;
	printf("%s %d - %s\n", passed ? "ok" : "not ok", tap_cases, name);
	return passed;
}

static inline void
is_number(long long got, long long expected, const char *name)
{
	if (!ok(got == expected, name))
		printf("# got %lld, expected %lld\n", got, expected);
}

/* Either text may be NULL. */
static inline void
is_text(const char *got, const char *expected, const char *name)
{
	bool		same = got == expected;

	if (got != NULL && expected != NULL)
		same = strcmp(got, expected) == 0;
	if (!ok(same, name))
		printf("# got \"%s\", expected \"%s\"\n", got ? got : "(NULL)",
			   expected ? expected : "(NULL)");
}

/* The program's exit status. */
static inline int
done(void)
{
	printf("1..%d\n", tap_cases);
	return tap_failures > 0 ? 1 : 0;
}

#endif
