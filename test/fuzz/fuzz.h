/*
 * What the targets share. A target is one file: it defines target(), which is given each input and
 * checks with HOLDS() what must hold for every one of them.
 *
 * With clang, libFuzzer makes the inputs; with any other compiler main() runs the files it is
 * given.
 */
#ifndef WH_FUZZ_H
#define WH_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX 4096			/* bytes of an input that are looked at */

/* text is the input with a NUL after its len bytes, some of which may be NUL, too. */
static void target(const char *text, size_t len);

#define HOLDS(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* of its very size, so that a byte read beyond the input is found */
	size_t		len = size < INPUT_MAX ? size : INPUT_MAX;
	char	   *text = malloc(len + 1);

	if (text == NULL)
		abort();
	memcpy(text, data, len);
	text[len] = '\0';
	target(text, len);
	free(text);
	return 0;
}

#ifdef WH_FUZZ_MAIN
int
main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
	{
		static uint8_t data[INPUT_MAX];
		FILE	   *file = fopen(argv[i], "rb");

		if (file == NULL)
		{
			perror(argv[i]);
			return 1;
		}
		LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof(data), file));
		fclose(file);
	}
	printf("%d inputs\n", argc - 1);
	return 0;
}
#endif

#endif
