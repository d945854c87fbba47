"""The servers' own clients, as people paste SQL into them."""

from __future__ import annotations

import shutil
import subprocess

from sqlalchemy import make_url

from tests.support.worlds.database import Database


def paste(database: Database, text: str) -> str:
    """What psql or the MariaDB client says to the text. It goes on after an error, as for what is typed."""
    url = make_url(database.url)
    if url.get_backend_name() == "postgresql":
        words = ["psql", "-X", url.set(drivername="postgresql").render_as_string(hide_password=False)]
    else:
        client = shutil.which("mariadb") or "mysql"
        words = [client, "--force", f"--user={url.username}", f"--socket={url.query['unix_socket']}", str(url.database)]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr
