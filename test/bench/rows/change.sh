# What events from tables cost whoever changes the table.
# shellcheck shell=bash
# shellcheck disable=SC2034	# OURS and THEIRS are for add_ratio

CHANGE_SECONDS=${BENCH_CHANGE_SECONDS:-8}
CHANGE_ROWS=${BENCH_CHANGE_ROWS:-100000}

# Orders, and what one would write without the extension: an outbox and the triggers that fill it.
make_orders()
{
	make_database bench 1 "$HTTP"
	sql bench -v receiver="$HTTP" <<-'END'
		CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account int NOT NULL, status text NOT NULL,
			note text, amount numeric(10, 2), updated_at timestamptz NOT NULL DEFAULT now());
		CREATE TABLE outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), event_type text NOT NULL, payload jsonb NOT NULL,
			created_at timestamptz NOT NULL DEFAULT now());
		CREATE FUNCTION into_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO outbox (event_type, payload) VALUES ('orders.created', jsonb_build_object('object', to_jsonb(NEW)));
			RETURN NULL;
		END $$;
		CREATE FUNCTION all_into_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO outbox (event_type, payload)
			SELECT 'orders.updated', jsonb_build_object('object', to_jsonb(n), 'previous_attributes', to_jsonb(o))
			FROM new_rows n JOIN old_rows o USING (id);
			RETURN NULL;
		END $$;
		SELECT webhooks.register_endpoint(:'receiver' || '/orders', '{orders.*}') \g /dev/null
	END
}

INSERT_ORDER="INSERT INTO orders (account, status, note, amount) VALUES (7, 'new', 'a note of some forty characters or so', 12.34);"

# Sets TPS; the trigger is the SQL that makes it.
insert_orders()
{
	make_orders
	value "$1" >/dev/null
	pgbench_tps bench "$INSERT_ORDER" -c 1 -T "$CHANGE_SECONDS"
}

row_change()
{
	local run
	OURS=() THEIRS=()
	USER_SETTINGS+=(PGOPTIONS="-c synchronous_commit=off")
	for ((run = 1; run <= RUNS; run++)); do
		insert_orders "SELECT webhooks.watch('orders')"
		OURS+=("$(calc 1 "1e6 / $TPS")")
		insert_orders "CREATE TRIGGER outbox AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION into_outbox()"
		THEIRS+=("$(calc 1 "1e6 / $TPS")")
		progress "run $run: ${OURS[-1]} us, with PL/pgSQL and an outbox ${THEIRS[-1]}"
	done
	unset 'USER_SETTINGS[-1]'
	add_ratio change "us an INSERT of one row" "with PL/pgSQL into an outbox" "<= 1.5"
}

# Sets MICROSECONDS to what a row takes of an UPDATE of all orders, its commit included.
update_orders()
{
	make_orders
	MICROSECONDS=$(sql bench -v n="$CHANGE_ROWS" <<-END
		INSERT INTO orders (account, status, note, amount)
		SELECT i % 100, 'new', 'a note of some forty characters or so', i FROM generate_series(1, :n) i;
		VACUUM (ANALYZE) orders;
		$1
		CHECKPOINT;
		SELECT clock_timestamp() AS began \\gset
		UPDATE orders SET status = 'paid';
		SELECT round((extract(epoch FROM clock_timestamp() - :'began'::timestamptz) * 1e6 / :n)::numeric, 2);
	END
	)
	MICROSECONDS=${MICROSECONDS##*$'\n'}
}

row_bulk_change()
{
	local run plain matched=() unmatched=() outbox=()
	for ((run = 1; run <= RUNS; run++)); do
		update_orders ""
		plain=$MICROSECONDS
		update_orders "SELECT webhooks.watch('orders', level => 'statement') \\g /dev/null"
		matched+=("$(calc 2 "$MICROSECONDS - $plain")")
		update_orders "CREATE TRIGGER outbox AFTER UPDATE ON orders REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
			FOR EACH STATEMENT EXECUTE FUNCTION all_into_outbox();"
		outbox+=("$(calc 2 "$MICROSECONDS - $plain")")
		configure webhooks.store_unmatched off
		update_orders "SELECT webhooks.watch('orders', 'unheard', level => 'statement') \\g /dev/null"
		configure webhooks.store_unmatched on
		unmatched+=("$(calc 2 "$MICROSECONDS - $plain")")
		progress "run $run: $plain us a row without a trigger; more with one endpoint ${matched[-1]}, with none ${unmatched[-1]}, with an outbox ${outbox[-1]}"
	done
	OURS=("${matched[@]}")
	add_value "bulk-change" "us more a row of an UPDATE, one endpoint" "<= 6"
	OURS=("${unmatched[@]}")
	add_value "bulk-change, unmatched" "us more a row, no endpoint" "<= 1"
	OURS=("${matched[@]}") THEIRS=("${outbox[@]}")
	add_ratio "bulk-change, outbox" "us more a row" "with PL/pgSQL into an outbox" ""
}
