#!/bin/sh
# Restores a dump of BACKUP_DIRECTORY, BACKUP_FILE or else the newest, beside the database, and puts it in the database's
# place once it is whole. What was there stays under the name with _before_restore, until the next restore.
set -eu
url=$(cat "$TRADEUL_DATABASE_URL_FILE")
cd "$BACKUP_DIRECTORY"
file=${BACKUP_FILE:-$(ls tradeul-*.dump 2> /dev/null | sort | tail -n 1)}
if [ ! -s "$file" ]; then
    echo "expected a dump in $BACKUP_DIRECTORY, was ${file:-none}" >&2
    exit 1
fi

# The same server and user, another database.
at() {
    printf %s "$url" | sed -E "s#^([^:]+://[^/?]*)(/[^?]*)?#\1/$1#"
}
run() {
    psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --dbname="$1"
}

name=$(echo "SELECT current_database()" | run "$url")
restored=${name}_restored
before=${name}_before_restore
printf 'DROP DATABASE IF EXISTS "%s" WITH (FORCE);\nCREATE DATABASE "%s";\n' "$restored" "$restored" | run "$(at postgres)"
# TimescaleDB's own tables are filled before its triggers watch them.
timescale=$(pg_restore --list "$file" | grep -c 'EXTENSION - timescaledb' || true)
if [ "$timescale" -gt 0 ]; then
    echo "CREATE EXTENSION timescaledb; SELECT timescaledb_pre_restore();" | run "$(at "$restored")" > /dev/null
fi
pg_restore --exit-on-error --no-owner --no-privileges --dbname="$(at "$restored")" "$file"
if [ "$timescale" -gt 0 ]; then
    echo "SELECT timescaledb_post_restore();" | run "$(at "$restored")" > /dev/null
fi
echo "ANALYZE;" | run "$(at "$restored")"

# Connected services come back by themselves, and find the restored one.
run "$(at postgres)" > /dev/null <<SQL
DROP DATABASE IF EXISTS "$before" WITH (FORCE);
ALTER DATABASE "$name" ALLOW_CONNECTIONS false;
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '$name';
BEGIN;
ALTER DATABASE "$name" RENAME TO "$before";
ALTER DATABASE "$restored" RENAME TO "$name";
COMMIT;
SQL
echo "restored $BACKUP_DIRECTORY/$file as $name; the one before is $before"
