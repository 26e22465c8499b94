#!/bin/sh
# Writes a dump of the database to BACKUP_DIRECTORY under the time of its beginning, then removes all but the newest
# BACKUP_KEEP. A dump appears under its name once it is whole.
set -eu
umask 077
url=$(cat "$TRADEUL_DATABASE_URL_FILE")
cd "$BACKUP_DIRECTORY"
name=tradeul-$(date -u +%Y%m%dT%H%M%SZ).dump
rm -f .new-*
pg_dump --dbname="$url" --format=custom --no-owner --no-privileges --file=".new-$name"
pg_restore --list ".new-$name" > /dev/null
sync ".new-$name"
mv ".new-$name" "$name"
for old in $(ls tradeul-*.dump | sort -r | tail -n "+$((BACKUP_KEEP + 1))"); do
    rm -- "$old"
done
echo "wrote $BACKUP_DIRECTORY/$name, $(wc -c < "$name") bytes"
