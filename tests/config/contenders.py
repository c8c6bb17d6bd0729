"""Read the configuration in the working directory with one library, set up as its own documents show.

Run as a program in a virtual environment that has the libraries: `python contenders.py LIBRARY`. Names,
types, ranges and choices are declared wherever the library can; no validator is written by hand. Exit code 0
means that the program would start; what was said is on stderr.
"""

import sys
import traceback
from pathlib import Path

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
ENVIRONMENTS = ("development", "testing", "staging", "production")


def pydantic_settings() -> None:
    """BaseSettings with an env file, a secrets folder, constrained types and SecretStr."""
    from typing import Literal

    from pydantic import Field, HttpUrl, SecretStr
    from pydantic_settings import BaseSettings, SettingsConfigDict

    class Settings(BaseSettings):
        model_config = SettingsConfigDict(env_file=".env", secrets_dir="secrets")
        environment: Literal["development", "testing", "staging", "production"] = "development"
        debug: bool = False
        db_host: str = "localhost"
        db_port: int = Field(5432, ge=1, le=65535)
        db_sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = (
            "verify-full"
        )
        db_pool_size: int = Field(5, ge=1, le=1000)
        db_password: SecretStr
        ledger_url: HttpUrl | None = None
        ledger_token: SecretStr
        public_url: HttpUrl
        secret_key: SecretStr = Field(min_length=6)

    Settings()


def dynaconf() -> None:
    """Dynaconf with its dotenv support, a validator for each variable, secrets from the environment."""
    import os

    from dynaconf import Dynaconf, Validator

    for path in Path("secrets").iterdir():
        os.environ.setdefault(path.name, f"'{path.read_text().rstrip()}'")
    settings = Dynaconf(
        envvar_prefix=False,
        load_dotenv=True,
        dotenv_path=".env",
        validators=[
            Validator("ENVIRONMENT", default="development", is_in=ENVIRONMENTS),
            Validator("DEBUG", default=False, is_type_of=bool),
            Validator("DB_HOST", default="localhost", is_type_of=str),
            Validator("DB_PORT", default=5432, is_type_of=int, gte=1, lte=65535),
            Validator("DB_SSLMODE", default="verify-full", is_in=SSL_MODES),
            Validator("DB_POOL_SIZE", default=5, is_type_of=int, gte=1, lte=1000),
            Validator("LEDGER_URL", default="", is_type_of=str),
            Validator("PUBLIC_URL", must_exist=True, is_type_of=str),
            Validator("SECRET_KEY", "DB_PASSWORD", "LEDGER_TOKEN", must_exist=True, len_min=6),
        ],
    )
    settings.validators.validate_all()


def environs() -> None:
    """Env with deferred validation, marshmallow's validators, secrets from files."""
    from environs import Env, FileAwareEnv, validate

    assert issubclass(FileAwareEnv, Env)
    import os

    for path in Path("secrets").iterdir():
        os.environ.setdefault(f"{path.name}_FILE", str(path))
    env = FileAwareEnv(eager=False)
    env.read_env(".env", recurse=False)
    env.str("ENVIRONMENT", "development", validate=validate.OneOf(ENVIRONMENTS))
    env.bool("DEBUG", False)
    env.str("DB_HOST", "localhost")
    env.int("DB_PORT", 5432, validate=validate.Range(min=1, max=65535))
    env.str("DB_SSLMODE", "verify-full", validate=validate.OneOf(SSL_MODES))
    env.int("DB_POOL_SIZE", 5, validate=validate.Range(min=1, max=1000))
    env.str("LEDGER_URL", "", validate=lambda text: not text or validate.URL(schemes={"https"})(text))
    env.str("PUBLIC_URL", validate=validate.URL(schemes={"https"}))
    for name in ("SECRET_KEY", "DB_PASSWORD", "LEDGER_TOKEN"):
        env.str(name, validate=validate.Length(min=6))
    env.seal()


def python_decouple() -> None:
    """python-decouple alone, as its README shows."""
    from decouple import Choices, Config, RepositoryEnv, RepositorySecret

    config, secret = Config(RepositoryEnv(".env")), Config(RepositorySecret("secrets"))
    config("ENVIRONMENT", default="development", cast=Choices(ENVIRONMENTS))
    config("DEBUG", default=False, cast=bool)
    config("DB_HOST", default="localhost")
    config("DB_PORT", default=5432, cast=int)
    config("DB_SSLMODE", default="verify-full", cast=Choices(SSL_MODES))
    config("DB_POOL_SIZE", default=5, cast=int)
    config("LEDGER_URL", default="")
    config("PUBLIC_URL")
    for name in ("SECRET_KEY", "DB_PASSWORD", "LEDGER_TOKEN"):
        secret(name)


LIBRARIES = {
    "pydantic-settings": pydantic_settings,
    "dynaconf": dynaconf,
    "environs": environs,
    "python-decouple": python_decouple,
}


def main(name: str) -> int:
    """Read with the library `name`; exit code 1 and its message when it refuses."""
    try:
        LIBRARIES[name]()
    except Exception as error:  # noqa: BLE001 (whatever it is, it is what the library says)
        said = traceback.format_exception_only(error)
        sys.stderr.write("".join(said))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
