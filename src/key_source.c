/*
 * A key that others can read, or that they have put there, protects nothing: such a file is
 * refused, by the rules that PostgreSQL has for ssl_key_file. It is judged once it is open, so that
 * it cannot be another by the time it is read.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "key_source.h"
#include "settings.h"
#include "storage/fd.h"

#define SOURCE_MAX (64 * 1024)	/* bytes */

bool
wh_key_source_is_set(void)
{
	return wh_secret_key_file[0] != '\0' || wh_secret_key_command[0] != '\0';
}

static char *
too_large(const char *setting)
{
	return psprintf("%s gives more than %d bytes", setting, SOURCE_MAX);
}

/* NULL, or why the file is not to be trusted. */
static char *
file_refusal(const char *path, int fd)
{
	struct stat file;

	if (fstat(fd, &file) != 0)
		return psprintf("could not look at file \"%s\": %m", path);
	if (!S_ISREG(file.st_mode))
		return psprintf("\"%s\" is not a regular file", path);
	if (file.st_uid != geteuid() && file.st_uid != 0)
		return psprintf("file \"%s\" must be owned by the server's user or root", path);
	if (file.st_uid == geteuid() && (file.st_mode & (S_IRWXG | S_IRWXO)) != 0)
		return psprintf("file \"%s\" has group or world access; owned by the server's user, it "
						"must have permissions u=rw (0600) or less", path);
	if (file.st_uid != geteuid() && (file.st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0)
		return psprintf("file \"%s\" has group write or world access; owned by root, it must have "
						"permissions u=rw,g=r (0640) or less", path);
	if (file.st_size > SOURCE_MAX)
		return too_large("webhooks.secret_key_file");
	return NULL;
}

static char *
read_file(size_t *len, char **error)
{
	const char *path = wh_secret_key_file;
	char	   *text;
	ssize_t		got;

	/* not to wait for whoever opens the other end of what turns out to be a pipe */
	int			fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);

	if (fd < 0)
	{
		*error = psprintf("could not open file \"%s\": %m", path);
		return NULL;
	}
	*error = file_refusal(path, fd);
	if (*error)
	{
		CloseTransientFile(fd);
		return NULL;
	}

	text = palloc(SOURCE_MAX);
	*len = 0;
	while ((got = read(fd, text + *len, SOURCE_MAX - *len)) > 0)
		*len += got;
	if (got < 0)
		*error = psprintf("could not read file \"%s\": %m", path);
	CloseTransientFile(fd);
	if (*error == NULL)
		return text;
	explicit_bzero(text, SOURCE_MAX);
	return NULL;
}

/*
 * No message shows the command: it may hold a password itself.
 */
static char *
read_command(size_t *len, char **error)
{
	FILE	   *pipe;
	char	   *text;
	int			status;

	*error = NULL;
	pipe = OpenPipeStream(wh_secret_key_command, "r");
	if (pipe == NULL)
	{
		*error = psprintf("could not run webhooks.secret_key_command: %m");
		return NULL;
	}
	setvbuf(pipe, NULL, _IONBF, 0); /* no copy of the keys in a buffer that nobody wipes */
	text = palloc(SOURCE_MAX + 1);
	*len = fread(text, 1, SOURCE_MAX + 1, pipe);
	if (ferror(pipe))
		*error = psprintf("could not read from webhooks.secret_key_command: %m");
	status = ClosePipeStream(pipe);

	/* a command that had more to say died of it */
	if (*error == NULL && *len > SOURCE_MAX)
		*error = too_large("webhooks.secret_key_command");
	if (*error == NULL && status != 0)
		*error = status == -1 ? psprintf("could not wait for webhooks.secret_key_command: %m") :
			psprintf("webhooks.secret_key_command failed: %s", wait_result_to_str(status));
	if (*error == NULL)
		return text;
	explicit_bzero(text, SOURCE_MAX + 1);
	return NULL;
}

char *
wh_key_source_read(size_t *len, char **error)
{
	if (wh_secret_key_file[0] == '\0')
		return read_command(len, error);
	if (wh_secret_key_command[0] == '\0')
		return read_file(len, error);
	*error = pstrdup("webhooks.secret_key_file and webhooks.secret_key_command are both set");
	return NULL;
}
