#!/bin/sh
# Copies what the containers must not lose into a new folder, while they run: databases, then files of models and runs.
# In this order a model that the copy of the database names has its files in the copy. Secrets are not in it: keep them elsewhere.
# usage: scripts/backup.sh FOLDER      (default: backups/ with the time)
set -eu
cd "$(dirname "$0")/.."
folder=${1:-backups/$(date -u +%Y%m%dT%H%M%SZ)}
if [ -e "$folder" ]; then
    echo "error: $folder is there already; name a new folder" >&2
    exit 2
fi
draft=$folder.part
rm -rf "$draft"
umask 077
mkdir -p "$draft"
for name in mlflow mlflow_users forecast; do
    docker compose exec -T postgres pg_dump --username=forecast --format=custom "$name" > "$draft/$name.dump"
done
artifacts=$(docker compose exec -T mlflow printenv ARTIFACTS)
case $artifacts in
s3://*) echo "note: $artifacts is not copied: use the store's own versions or copies" >&2 ;;
*) docker compose exec -T mlflow tar -C "$artifacts" -czf - . > "$draft/artifacts.tar.gz" ;;
esac
docker compose exec -T scheduler tar -C /data --exclude=./recipes --exclude=./cache -czf - . > "$draft/scheduler.tar.gz"
mv "$draft" "$folder"
du -sh "$folder"
