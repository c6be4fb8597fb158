/*
 * Row-level security: whoever is not a table's owner sees the rows of the session's tenant, or all
 * rows when the session is not confined to one.
 *
 * The rule comes through PostgreSQL's hooks and not from CREATE POLICY: pg_dump writes out the
 * policies of an extension's tables, which the install script would have made already when the dump
 * is restored. So every table of the schema has the rule, partitions included, as soon as its
 * row-level security is enabled; and it cannot be dropped.
 *
 * In a session that has not loaded the library PostgreSQL finds no policy, and shows nothing to
 * whoever is not the owner. That is as it has to be: without the library anybody may set
 * webhooks.tenant_id.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_clause.h"
#include "parser/parse_collate.h"
#include "parser/parse_node.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "rewrite/rewriteManip.h"
#include "rewrite/rowsecurity.h"
#include "sql/tenant_rule.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* As a sub-select it is read once for a query, not for each row. */
#define SESSION_TENANT "(SELECT pg_catalog.current_setting('webhooks.tenant_id'))"
#define UNCONFINED SESSION_TENANT " OPERATOR(pg_catalog.=) ''"

typedef struct Rule
{
	Oid			relid;
	MemoryContext context;		/* holds the rule */
	Expr	   *condition;
} Rule;

static row_security_policy_hook_type previous_permissive = NULL;
static row_security_policy_hook_type previous_restrictive = NULL;
static List *rules = NIL;		/* of Rule, in CacheMemoryContext: parsed once */

/*
 * What the rule is goes by the table's columns, so that a new table has one: where rows are no
 * tenant's, a confined session sees none, save of the catalog of event types. NULL: the rows are
 * nobody's but the owner's.
 */
static char *
rule_text(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	const char *name = quote_identifier(RelationGetRelationName(rel));

	if (get_attnum(relid, "secret") != InvalidAttrNumber)
		return NULL;
	if (get_attnum(relid, "tenant_id") != InvalidAttrNumber)
		return psprintf(UNCONFINED " OR %s.tenant_id OPERATOR(pg_catalog.=) " SESSION_TENANT, name);

	/* the endpoints that are seen are the tenant's, by their own rule */
	if (get_attnum(relid, "endpoint_id") != InvalidAttrNumber)
		return psprintf(UNCONFINED " OR EXISTS (SELECT FROM webhooks.endpoints seen"
						" WHERE seen.endpoint_id OPERATOR(pg_catalog.=) %s.endpoint_id)", name);
	return strcmp(RelationGetRelationName(rel), "event_types") == 0 ? pstrdup("true") :
		pstrdup(UNCONFINED);
}

static Node *
parse_condition(Relation rel, const char *text)
{
	ParseState *state = make_parsestate(NULL);
	RawStmt    *statement = linitial_node(RawStmt, raw_parser(text, RAW_PARSE_PLPGSQL_EXPR));
	ResTarget  *target = linitial_node(ResTarget,
									   castNode(SelectStmt, statement->stmt)->targetList);
	ParseNamespaceItem *item = addRangeTableEntryForRelation(state, rel, AccessShareLock, NULL,
															 false, false);
	Node	   *condition;

	addNSItemToQuery(state, item, false, true, true);
	condition = transformWhereClause(state, target->val, EXPR_KIND_POLICY, "POLICY");
	assign_expr_collations(state, condition);
	free_parsestate(state);
	return condition;
}

/* Names are looked up as the owner: who may read a table need not be allowed into the schema. */
static Node *
parse_as_owner(Relation rel, const char *text)
{
	Oid			save_user;
	int			save_context;
	Node	   *condition;

	GetUserIdAndSecContext(&save_user, &save_context);
	SetUserIdAndSecContext(rel->rd_rel->relowner, save_context | SECURITY_LOCAL_USERID_CHANGE);
	condition = parse_condition(rel, text);
	SetUserIdAndSecContext(save_user, save_context);
	return condition;
}

static Rule *
make_rule(Relation rel, const char *text)
{
	Node	   *condition = parse_as_owner(rel, text);
	MemoryContext context = AllocSetContextCreate(CacheMemoryContext, "webhooks tenant rule",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	Rule	   *rule = palloc(sizeof(Rule));

	rule->relid = RelationGetRelid(rel);
	rule->context = context;
	rule->condition = (Expr *) copyObject(condition);
	MemoryContextSwitchTo(CacheMemoryContext);
	rules = lappend(rules, rule);
	MemoryContextSwitchTo(before);
	return rule;
}

/* A copy, which no invalidation takes away; NULL when the rows are nobody's. */
static Expr *
find_condition(Relation rel)
{
	ListCell   *cell;
	char	   *text;

	foreach(cell, rules)
	{
		Rule	   *rule = lfirst(cell);

		if (rule->relid == RelationGetRelid(rel))
			return copyObject(rule->condition);
	}
	text = rule_text(rel);
	return text ? copyObject(make_rule(rel, text)->condition) : NULL;
}

/* A rule may name another table than its own, so all go with one. */
static void
forget(Datum arg, Oid relid)
{
	bool		known = !OidIsValid(relid);
	ListCell   *cell;

	foreach(cell, rules)
		known |= ((Rule *) lfirst(cell))->relid == relid;
	if (!known)
		return;
	foreach(cell, rules)
		MemoryContextDelete(((Rule *) lfirst(cell))->context);
	list_free(rules);
	rules = NIL;
}

static bool
is_ours(Relation rel)
{
	Oid			namespace = get_namespace_oid("webhooks", true);

	return OidIsValid(namespace) && RelationGetNamespace(rel) == namespace;
}

static List *
policy_of(Expr *condition, bool permissive)
{
	RowSecurityPolicy *policy = palloc0(sizeof(RowSecurityPolicy));
	Datum		everybody = ObjectIdGetDatum(ACL_ID_PUBLIC);

	policy->policy_name = pstrdup("webhooks_tenant");
	policy->polcmd = '*';
	policy->roles = construct_array(&everybody, 1, OIDOID, sizeof(Oid), true, TYPALIGN_INT);
	policy->permissive = permissive;
	policy->qual = condition;
	policy->hassublinks = checkExprHasSubLink((Node *) condition);
	return list_make1(policy);
}

/* Lets rows be seen at all: of permissive policies one must hold. */
static List *
permit(CmdType command, Relation rel)
{
	List	   *policies = previous_permissive ? previous_permissive(command, rel) : NIL;
	Expr	   *condition = is_ours(rel) ? find_condition(rel) : NULL;

	if (condition == NULL)
		return policies;
	return list_concat(policies, policy_of((Expr *) makeBoolConst(true, false), true));
}

/* Of restrictive ones all must: no policy that somebody adds shows a tenant more. */
static List *
restrict_to_tenant(CmdType command, Relation rel)
{
	List	   *policies = previous_restrictive ? previous_restrictive(command, rel) : NIL;
	Expr	   *condition = is_ours(rel) ? find_condition(rel) : NULL;

	if (condition == NULL)
		return policies;
	return list_concat(policies, policy_of(condition, false));
}

void
wh_tenant_rule_install(void)
{
	previous_permissive = row_security_policy_hook_permissive;
	row_security_policy_hook_permissive = permit;
	previous_restrictive = row_security_policy_hook_restrictive;
	row_security_policy_hook_restrictive = restrict_to_tenant;
	CacheRegisterRelcacheCallback(forget, (Datum) 0);
}
