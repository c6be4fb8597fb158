\set ECHO none
-- What every regression script begins with, so that all show results and refusals alike:
--
--   \getenv tree PG_ABS_SRCDIR
--   \set begin :tree /test/lib/regress.sql
--   \i :begin
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' -> '
\pset null NULL

-- What the script before this one left over would be told as if this one had made it.
SELECT format('%s is not empty', rel) FROM (
	SELECT oid::regclass AS rel FROM pg_class
	WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'webhooks') AND relkind IN ('r', 'p') AND NOT relispartition) t
WHERE (xpath('count(//row)', query_to_xml(format('SELECT 1 FROM %s LIMIT 1', rel), true, false, '')))[1]::text <> '0';

-- How often this transaction has written a row of the extension's, what was undone included.
CREATE OR REPLACE FUNCTION written() RETURNS bigint LANGUAGE sql AS $$
	SELECT coalesce(sum(pg_stat_get_xact_tuples_inserted(oid) + pg_stat_get_xact_tuples_updated(oid) + pg_stat_get_xact_tuples_deleted(oid)), 0)::bigint
	FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'webhooks') AND relkind = 'r'
$$;

-- What a statement comes to: its error with detail and hint, ids left out, and whether it came too late. What it does
-- is undone unless it is kept.
CREATE OR REPLACE FUNCTION tried(statement text, keep boolean DEFAULT true) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before constant bigint := written();
	said text;
	detail text;
	hint text;
BEGIN
	EXECUTE statement;
	IF NOT keep THEN
		RAISE EXCEPTION USING ERRCODE = 'ZZ000';
	END IF;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	IF SQLSTATE = 'ZZ000' THEN
		RETURN 'ok';
	END IF;
	GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	said := concat_ws(' | ', SQLSTATE || ' ' || said, 'detail: ' || nullif(detail, ''), 'hint: ' || nullif(hint, ''),
		CASE WHEN written() > before THEN 'only after something was written' END);
	RETURN regexp_replace(said, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g');
END
$$;

-- What every regression script ends with.
CREATE OR REPLACE PROCEDURE leave_nothing() LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE (SELECT 'TRUNCATE ' || string_agg(oid::regclass::text, ', ') FROM pg_class
		WHERE relnamespace = 'webhooks'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition);
END
$$;
\set ECHO all
