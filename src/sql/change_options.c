/*
 * The arguments of a trigger that calls emit_change(): the resource, then option=value.
 *
 * Whatever is not understood is refused. A misspelt "exclude" that was passed over would send what
 * was to be kept back.
 */
#include "postgres.h"

#include "core/event_type.h"
#include "sql/change.h"
#include "utils/varlena.h"

const char *
wh_change_word(WhChangeKind kind)
{
	switch (kind)
	{
		case WH_CREATED:
			return "created";
		case WH_UPDATED:
			return "updated";
		case WH_DELETED:
			return "deleted";
		case WH_TRUNCATED:
			return "truncated";
		case WH_SNAPSHOT:
			return "snapshot";
	}
	return NULL;
}

void
wh_check_resource(const char *resource)
{
	const char *longest = psprintf("%s.%s", resource, wh_change_word(WH_TRUNCATED));

	if (!wh_event_type_valid(longest))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("resource is not the beginning of an event type: \"%s\"", resource),
				 errdetail("Event types have at most %d characters: letters, digits, \"_\" and "
						   "\"-\", in parts joined by single dots.", WH_EVENT_TYPE_MAX),
				 errhint("Name a resource that is: \"order\" makes \"order.created\".")));
	if (strcmp(resource, "webhooks") == 0 || strncmp(resource, "webhooks.", 9) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("resource must not begin with \"webhooks\""),
				 errdetail("Event types that begin with \"webhooks.\" are the extension's own.")));
}

static void
refuse_option(const char *argument)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("emit_change has no option \"%s\"", argument),
			 errhint("Options are written as name=value; there are tenant_column, include, "
					 "exclude, ordering_columns, idempotency_column and when_changed.")));
}

static List *
parse_names(const char *option, const char *value)
{
	List	   *names;
	ListCell   *cell;

	if (!SplitIdentifierString(pstrdup(value), ',', &names) || names == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must name columns, separated by commas: \"%s\"", option, value),
				 errhint("A name that SQL would want in double quotes needs them here, too.")));
	foreach(cell, names)
		lfirst(cell) = pstrdup(lfirst(cell));
	return names;
}

static void
set_option(WhChangeOptions *options, const char *name, const char *value)
{
	const struct
	{
		const char *name;
		List	  **names;
		bool		single;
	}			known[] = {
		{"tenant_column", &options->tenant_column, true},
		{"idempotency_column", &options->idempotency_column, true},
		{"include", &options->include, false},
		{"exclude", &options->exclude, false},
		{"ordering_columns", &options->ordering_columns, false},
		{"ordering_column", &options->ordering_columns, false},
		{"when_changed", &options->when_changed, false}
	};

	for (int i = 0; i < lengthof(known); i++)
	{
		List	  **names = known[i].names;

		if (strcmp(known[i].name, name) != 0)
			continue;
		if (*names != NIL || (names == &options->ordering_columns && options->ordered_by_key))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s is given twice", name)));
		if (names == &options->ordering_columns && strcmp(value, WH_ORDERED_BY_KEY) == 0)
		{
			options->ordered_by_key = true;
			return;
		}
		*names = parse_names(name, value);
		if (known[i].single && list_length(*names) > 1)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must name one column: \"%s\"", name, value)));
		return;
	}
	refuse_option(name);
}

WhChangeOptions *
wh_change_options(int count, char **arguments)
{
	WhChangeOptions *options = palloc0(sizeof(WhChangeOptions));

	if (count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("emit_change needs the name of a resource"),
				 errhint("For example EXECUTE FUNCTION webhooks.emit_change('order').")));
	options->resource = pstrdup(arguments[0]);
	wh_check_resource(options->resource);
	for (int i = 1; i < count; i++)
	{
		char	   *name = pstrdup(arguments[i]);
		char	   *equals = strchr(name, '=');

		if (equals == NULL)
			refuse_option(arguments[i]);
		*equals = '\0';
		set_option(options, name, equals + 1);
	}
	if (options->include && options->exclude)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("include and exclude must not both be given")));
	return options;
}
