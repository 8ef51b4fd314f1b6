# The SDK of PyPI as a client of the door, in both versions of the protocol. "ok" is printed at the end.
import asyncio
import os
import uuid

import httpx
from a2a.client import A2ACardResolver, ClientConfig, ClientFactory
from a2a.types import (
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    TaskPushNotificationConfig,
    TaskState,
)
from a2a.utils.errors import TaskNotCancelableError, TaskNotFoundError

URL = os.environ["DOOR_URL"]


def say(text, context=None):
    return SendMessageRequest(
        message=Message(message_id=str(uuid.uuid4()), role=Role.ROLE_USER, parts=[Part(text=text)], context_id=context or "")
    )


async def answer(client, request):
    """Returns the task's ids, its last state and the text of its artifact."""
    task = context = state = None
    text = ""
    async for event in client.send_message(request):
        if event.HasField("task"):
            task, context, state = event.task.id, event.task.context_id, event.task.status.state
            for artifact in event.task.artifacts:
                text = "".join(p.text for p in artifact.parts)
        elif event.HasField("artifact_update"):
            piece = "".join(p.text for p in event.artifact_update.artifact.parts)
            text = text + piece if event.artifact_update.append else piece
        elif event.HasField("status_update"):
            state = event.status_update.status.state
    return task, context, state, text


async def use(version, streaming):
    async with httpx.AsyncClient(headers={"X-API-Key": os.environ["DOOR_KEY"]}, timeout=30) as http, httpx.AsyncClient(
        headers={"X-API-Key": os.environ["DOOR_OTHER_KEY"]}, timeout=30
    ) as other:
        card = await A2ACardResolver(http, URL).get_agent_card()
        assert card.name == "keeper" and card.skills[1].id == "count", card
        wanted = [i for i in card.supported_interfaces if i.protocol_version.startswith(version)]
        assert wanted, card
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(wanted)
        client = ClientFactory(ClientConfig(streaming=streaming, httpx_client=http)).create(card)
        task, context, state, text = await answer(client, say("Say echo."))
        assert (state, text) == (TaskState.TASK_STATE_COMPLETED, "echo"), (version, state, text)
        _, again, _, text = await answer(client, say("Again.", context))
        assert again == context and text == "echo", (again, context, text)
        read = await client.get_task(GetTaskRequest(id=task))
        assert read.status.state == TaskState.TASK_STATE_COMPLETED and read.artifacts[0].parts[0].text == "echo", read
        try:
            await client.cancel_task(CancelTaskRequest(id=task))
            raise AssertionError("what is over was canceled")
        except TaskNotCancelableError:
            pass
        stranger = ClientFactory(ClientConfig(streaming=False, httpx_client=other)).create(card)
        try:
            await stranger.get_task(GetTaskRequest(id=task))
            raise AssertionError("another owner reads the task")
        except TaskNotFoundError:
            pass


async def push(version):
    """Has the end of a task that has begun pushed."""
    async with httpx.AsyncClient(headers={"X-API-Key": os.environ["DOOR_KEY"]}, timeout=30) as http:
        card = await A2ACardResolver(http, URL).get_agent_card()
        assert card.capabilities.push_notifications, card
        wanted = [i for i in card.supported_interfaces if i.protocol_version.startswith(version)]
        del card.supported_interfaces[:]
        card.supported_interfaces.extend(wanted)
        client = ClientFactory(ClientConfig(streaming=False, httpx_client=http)).create(card)
        request = say("Say echo.")
        request.configuration.return_immediately = True
        task, _, state, _ = await answer(client, request)
        assert state == TaskState.TASK_STATE_WORKING, state
        hook = os.environ["HOOK_URL"]
        created = await client.create_task_push_notification_config(TaskPushNotificationConfig(task_id=task, id="mine", url=hook))
        assert (created.task_id, created.id, created.url) == (task, "mine", hook), created
        read = await client.get_task_push_notification_config(GetTaskPushNotificationConfigRequest(task_id=task, id="mine"))
        assert read.url == hook, read
        await client.delete_task_push_notification_config(DeleteTaskPushNotificationConfigRequest(task_id=task, id="mine"))
        listed = await client.list_task_push_notification_configs(ListTaskPushNotificationConfigsRequest(task_id=task))
        assert not listed.configs, listed
        await client.create_task_push_notification_config(TaskPushNotificationConfig(task_id=task, id="again", url=hook))
        await http.post(os.environ["GO_ON_URL"])
        print("pushed", task)


async def main():
    for version in ("1.0", "0.3"):
        for streaming in (False, True):
            await use(version, streaming)
        await push(version)
    print("ok")


asyncio.run(main())
