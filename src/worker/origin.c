/*
 * An origin is known for as long as something is under way to it: what was learnt about it before
 * that may no longer be so.
 */
#include "postgres.h"

#include "worker/origin.h"
#include "worker/transport.h"

void
wh_origins_init(WhOrigins *origins)
{
	for (int i = 0; i < WH_ORIGIN_BUCKETS; i++)
		dlist_init(&origins->buckets[i]);
}

void
wh_origins_free(WhOrigins *origins)
{
	for (int i = 0; i < WH_ORIGIN_BUCKETS; i++)
		while (!dlist_is_empty(&origins->buckets[i]))
			free(dlist_container(WhOrigin, node, dlist_pop_head_node(&origins->buckets[i])));
}

/* How much of a URL is its origin: "https://host:port". */
static size_t
origin_len(const char *url)
{
	const char *host = strstr(url, "://");

	if (host == NULL)
		return strlen(url);
	host += 3;
	return host - url + strcspn(host, "/?#\\");
}

#define HASH_START 2166136261U

/* FNV-1a */
static uint32
hash_more(uint32 hash, const char *name, size_t len)
{

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char) name[i]) * 16777619U;
	return hash;
}

WhOrigin *
wh_origin_enter(WhOrigins *origins, const WhRequest *request)
{
	const char *url = request->url;
	const char *certificate = request->certificate ? request->certificate->id : "";
	size_t		len = origin_len(url);
	uint32		hash = hash_more(hash_more(HASH_START, url, len), certificate,
								 strlen(certificate));
	dlist_head *bucket = &origins->buckets[hash % WH_ORIGIN_BUCKETS];
	WhOrigin   *origin;
	dlist_iter	iter;

	dlist_foreach(iter, bucket)
	{
		origin = dlist_container(WhOrigin, node, iter.cur);
		if (origin->hash == hash && origin->name_len == len &&
			memcmp(origin->name, url, len) == 0 && strcmp(origin->certificate, certificate) == 0)
		{
			origin->requests++;
			return origin;
		}
	}

	origin = malloc(offsetof(WhOrigin, name) + len);
	if (origin == NULL)
		return NULL;
	origin->hash = hash;
	origin->requests = 1;
	origin->pool = WH_NO_POOL;
	origin->leader = NULL;
	dlist_init(&origin->waiting);
	strlcpy(origin->certificate, certificate, sizeof(origin->certificate));
	origin->name_len = len;
	memcpy(origin->name, url, len);
	dlist_push_head(bucket, &origin->node);
	return origin;
}

void
wh_origin_leave(WhOrigin *origin)
{
	if (--origin->requests > 0)
		return;
	dlist_delete(&origin->node);
	free(origin);
}
