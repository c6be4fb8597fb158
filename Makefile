EXTENSION = webhooks
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" webhooks.control)

MODULE_big = webhooks
OBJS = $(patsubst %.c,%.o,$(wildcard src/*.c src/core/*.c src/worker/*.c src/sql/*.c))
DATA = $(wildcard sql/webhooks--*.sql)

PG_CPPFLAGS = -I$(srcdir)/src -DWH_VERSION='"$(EXTVERSION)"' $(shell pkg-config --cflags libcurl libssl libcrypto)
PG_CFLAGS = -std=gnu11 -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-cast-function-type -Wno-declaration-after-statement -Wno-clobbered -Wshadow=local
SHLIB_LINK = $(shell pkg-config --libs libcurl libssl libcrypto) -lpthread -Wl,--version-script=$(srcdir)/src/exports.map

# The functions do too much for the JIT compiler to inline them, so it needs no second build of them.
override with_llvm = no

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PGXS knows no header dependencies; the sources are few enough to follow them all.
$(OBJS): $(wildcard src/*.h src/*/*.h) webhooks.control Makefile

# Takes long, and wants a machine of its own: never part of the checks.
.PHONY: bench fuzz
bench:
	$(srcdir)/test/bench/run

# The same; FUZZ_SECONDS for each target.
fuzz:
	$(srcdir)/test/fuzz/run

# The same for a receiving database that is killed again and again under 20,000 messages.
.PHONY: test-receiving
test-receiving:
	MESSAGES=20000 TAP_TESTS=t/061_receiving.pl $(srcdir)/test/check --private tap
