#!/bin/sh
# Puts a copy that scripts/backup.sh has made in the place of what the containers hold. The service goes on serving meanwhile.
# usage: scripts/restore.sh FOLDER
set -eu
if [ ! -f "${1:-}/mlflow.dump" ]; then
    echo "error: '${1:-}' holds no mlflow.dump; name a folder that scripts/backup.sh has made" >&2
    exit 2
fi
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
docker compose stop scheduler mlflow
docker compose up -d --wait postgres
for name in mlflow mlflow_users forecast; do
    docker compose exec -T postgres dropdb --username=forecast --if-exists --force "$name"
    docker compose exec -T postgres createdb --username=forecast "$name"
    docker compose exec -T postgres pg_restore --username=forecast --exit-on-error --no-owner --dbname="$name" < "$folder/$name.dump"
done
into() { docker compose run --rm --no-deps -T --entrypoint tar "$1" -C "$2" -xzf - < "$3"; }
[ ! -f "$folder/artifacts.tar.gz" ] || into mlflow /artifacts "$folder/artifacts.tar.gz"
into scheduler /data "$folder/scheduler.tar.gz"
[ ! -f "$folder/answers.tar.gz" ] || into service /answers "$folder/answers.tar.gz"
docker compose up -d --wait --wait-timeout 600
echo "restored from $folder"
