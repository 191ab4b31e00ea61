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
# what is written meanwhile makes tar say so and return 1: such a copy is whole but for that file
copy() { docker compose exec -T "$1" sh -c 'tar "$@"; [ $? -le 1 ]' tar -C "$2" -czf - $3 .; }
artifacts=$(docker compose exec -T mlflow printenv ARTIFACTS)
case $artifacts in
s3://*) echo "note: $artifacts is not copied: use the store's own versions or copies" >&2 ;;
*) copy mlflow "$artifacts" "" > "$draft/artifacts.tar.gz" ;;
esac
copy scheduler /data "--exclude=./recipes --exclude=./cache" > "$draft/scheduler.tar.gz"
copy scheduler /answers "" > "$draft/answers.tar.gz"
mv "$draft" "$folder"
du -sh "$folder"
