"""For those who know Locust: apps that upload pictures and ask for them.

    pip install locust
    KEY=mw_... locust -f bench/locustfile.py --host http://127.0.0.1:8080 --users 100 --spawn-rate 20

The key needs the scopes `upload` and `read`. Pictures are those of `MEDIA_PHOTOS`, a folder of JPEGs, or some
of ours. Locust itself takes a core for some hundred requests a second: `python -m bench http` takes far less.
"""

# mypy: disable-error-code="import-not-found,misc,untyped-decorator"
# ruff: noqa: S311

import os
import random
from pathlib import Path

from locust import HttpUser, between, task

_HERE = Path(__file__).parent
_PHOTOS = Path(os.environ.get("MEDIA_PHOTOS", _HERE.parent / "scripts" / "pictures"))
_PICTURES = [path.read_bytes() for path in sorted(_PHOTOS.glob("*.jpg"))]
_KEPT = 200  # ids of uploads that an app asks for


class App(HttpUser):
    """An app: for each upload it asks 50 times for one, and 5 times for a list."""

    wait_time = between(0.05, 0.5)

    def on_start(self) -> None:
        """Show the key, and upload a first picture."""
        self.client.headers["Authorization"] = f"Bearer {os.environ['KEY']}"
        self.ids: list[str] = []
        self.upload()

    @task(1)
    def upload(self) -> None:
        """A picture; whether it is the same as another does not matter."""
        headers = {"Content-Type": "image/jpeg", "Idempotency-Key": f"{random.getrandbits(128):032x}"}
        picture = random.choice(_PICTURES)
        with self.client.post("/v1/uploads", picture, headers=headers, catch_response=True) as answer:
            if answer.status_code == 201:
                self.ids = [*self.ids[1 - _KEPT :], answer.json()["id"]]
            elif answer.status_code == 503:
                answer.success()  # it is asked to try again soon, and does

    @task(50)
    def status(self) -> None:
        """What became of an upload."""
        if self.ids:
            self.client.get(f"/v1/uploads/{random.choice(self.ids)}", name="/v1/uploads/{id}")

    @task(5)
    def newest(self) -> None:
        """The newest uploads."""
        self.client.get("/v1/uploads?limit=20&state=ready", name="/v1/uploads")

    @task(1)
    def next_page(self) -> None:
        """The page after the first."""
        following = self.client.get("/v1/uploads?limit=20", name="/v1/uploads").json().get("next")
        if following:
            self.client.get(
                "/v1/uploads", params={"limit": 20, "cursor": following}, name="/v1/uploads?cursor"
            )
