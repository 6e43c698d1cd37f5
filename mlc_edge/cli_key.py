"""The `mlc-edge key` command: keys that vouch for bundles."""

from pathlib import Path
from typing import Annotated

import typer

from mlc_edge.errors import ConfigError
from mlc_edge.signing import SigningKey, find_signer, parse_public_keys
from mlc_edge.trust import KEYS_OPTION, configured_keys

KEY_NAME = "signing-key.pem"
Bundle = Annotated[Path, typer.Argument(help="Bundle folder.", show_default=False)]

key = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Make keys, sign bundles, check signatures."
)


@key.command()
def new(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="New file for the private key.", show_default=f"~/.config/…/{KEY_NAME}"
        ),
    ] = None,
) -> None:
    """Make a key: the private one goes to a file, the public one to stdout."""
    from platformdirs import user_config_path

    path = file or user_config_path("mlc-edge") / KEY_NAME
    made = SigningKey.create(path)
    typer.echo(
        f"The private key is in {path}: whoever has it can sign as you. This one is for all:",
        err=True,
    )
    typer.echo(str(made.public))


@key.command()
def sign(
    bundle: Bundle,
    file: Annotated[Path, typer.Option("--key", help="Private key that `mlc-edge key new` made.")],
) -> None:
    """Sign a bundle whose files are what its lock says."""
    from mlc_edge.bundle import verify

    signing_key = SigningKey.load(file)
    verify(bundle)
    signing_key.sign(bundle)
    typer.echo(f"{bundle} is signed by the key {signing_key.public.id}.")


@key.command("verify")
def verify_signature(
    bundle: Bundle,
    keys: Annotated[
        list[str] | None,
        typer.Option(
            "--key", help="Public key; default: this machine's trusted keys.", show_default=False
        ),
    ] = None,
) -> None:
    """Check a bundle's signature, and all files that it vouches for."""
    from mlc_edge.bundle import verify

    trusted = parse_public_keys(keys or configured_keys())
    if not trusted:
        raise ConfigError(f"no key to check with: pass --key, or set {KEYS_OPTION}.")
    signer = find_signer(bundle, trusted)
    verify(bundle)
    typer.echo(f"{bundle} is whole, and signed by {signer} (key {signer.id}).")
