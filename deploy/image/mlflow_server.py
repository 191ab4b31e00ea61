"""The command of the image mlflow: users where a password is asked for, a bucket on S3, then the server.

It reads MLFLOW_DATABASE, ARTIFACTS (a folder or s3://bucket/path), MLFLOW_ALLOWED_HOSTS, and MLFLOW_AUTH,
which asks for a password where it is true.
"""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

AUTH_INI = Path("/tmp/basic_auth.ini")
TRAINER, READER = "trainer", "service"


def main() -> None:
    """Prepare what is asked for and become the server."""
    options = []
    if os.environ.get("MLFLOW_AUTH", "").lower() in ("true", "1", "yes"):
        prepare_users(os.environ["MLFLOW_AUTH_DATABASE"])
        options = ["--app-name", "basic-auth"]
    artifacts = os.environ.get("ARTIFACTS") or "/artifacts"
    if artifacts.startswith("s3://"):
        make_bucket(urlsplit(artifacts).netloc)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "0.0.0.0", "--port", "5000"]
    command += ["--workers", "1", "--uvicorn-opts", "--log-config /opt/bin/mlflow_logs.json"]
    database = os.environ["MLFLOW_DATABASE"]
    command += ["--backend-store-uri", database, "--registry-store-uri", database]
    command += ["--artifacts-destination", artifacts]
    command += ["--allowed-hosts", os.environ["MLFLOW_ALLOWED_HOSTS"], *options]
    os.execv(command[0], command)


def prepare_users(database: str) -> None:
    """Two users whose passwords are those of the secrets: one that may do all, and one that may only read."""
    admin_password = os.environ["MLFLOW_TRAINER_PASSWORD"]
    lines = {
        "default_permission": "READ",
        "database_uri": database,
        "admin_username": TRAINER,
        "admin_password": admin_password,
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "auth_cache_ttl_seconds": "60",
    }
    text = "".join(f"{key} = {value.replace('%', '%%')}\n" for key, value in lines.items())
    AUTH_INI.touch(mode=0o600)
    AUTH_INI.write_text(f"[mlflow]\n{text}")
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(AUTH_INI)

    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(database)
    passwords = {TRAINER: admin_password, READER: os.environ["MLFLOW_SERVICE_PASSWORD"]}
    for name, password in passwords.items():
        if not store.has_user(name):
            store.create_user(name, password, is_admin=name == TRAINER)
        elif not store.authenticate_user(name, password):
            store.update_user(name, password=password)


def make_bucket(name: str) -> None:
    """Make the bucket where it is missing."""
    import boto3
    from botocore.exceptions import ClientError

    client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None)
    try:
        client.head_bucket(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        client.create_bucket(Bucket=name)


if __name__ == "__main__":
    main()
