#!/bin/sh
# Beside the database of runs and models: one for MLflow's users, one for locks and what the scheduler keeps.
set -eu
for name in mlflow_users forecast; do
    psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" -c "CREATE DATABASE $name"
done
