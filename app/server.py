"""The lab as a server application: ``streamlit run app/server.py``.

The same pages as ``app/main.py``. Besides, the model begins to warm up as the server starts and not
as the first visitor comes, and every answer carries a content-security policy: whatever a page were
brought to contain, the browser fetches nothing from another host.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402
from starlette.datastructures import MutableHeaders  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.types import ASGIApp, Message, Receive, Scope, Send  # noqa: E402

from app import warmup  # noqa: E402

# Streamlit's own scripts need inline code and eval; the policy keeps data in, not scripts out.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "frame-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)


class SecurityHeaders:
    """Adds the policy, and headers that keep prompts in addresses to this host, to each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, HTTP answers with the headers added."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


@asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[None]:
    """Begin to warm up; the shell is served meanwhile."""
    warmup.start()
    yield


app = st.App(
    Path(__file__).with_name("main.py"),
    lifespan=lifespan,
    middleware=[Middleware(SecurityHeaders)],
)
