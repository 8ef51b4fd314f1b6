"""A caller's way through the service, by a client that is generated from the document."""

import importlib
import pkgutil
import sys

import gatehouse_client
from gatehouse_client import Client
from gatehouse_client.api.agent import invoke
from gatehouse_client.api.sessions import get_session
from gatehouse_client.models import Code, Error, Request, ResponseAnswer

for module in pkgutil.walk_packages(gatehouse_client.__path__, "gatehouse_client."):
    importlib.import_module(module.name)

with Client(base_url=sys.argv[1]) as client:
    turn = invoke.sync(client=client, body=Request(query="What is the price of an apple?"), idempotency_key="order-4711")
    assert isinstance(turn, ResponseAnswer) and turn.data.turn == 1, turn
    history = get_session.sync(turn.data.session_id, client=client)
    assert not isinstance(history, Error) and history.data.turns[0].response == turn.data.response, history
    refused = invoke.sync(client=client, body=Request(query=" "))
    assert isinstance(refused, Error) and refused.error == Code.VALIDATION_FAILED, refused
    assert refused.details[0].field == "query", refused
