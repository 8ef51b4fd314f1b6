"""Mends what LiteLLM's Gemini endpoints lose, before the model is called."""

from litellm.integrations.custom_logger import CustomLogger


class Gate(CustomLogger):
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        # They read files under Python's names only, and drop them under JSON's.
        for content in data.get("contents") or []:
            for part in content.get("parts") or []:
                if file := part.pop("inlineData", None):
                    part["inline_data"] = {"mime_type": file["mimeType"], "data": file["data"]}
        return data

    async def async_pre_call_deployment_hook(self, kwargs, call_type):
        # They derive a call's id from the tool's name: two calls of one tool would have
        # the same, which Anthropic refuses. Results follow their calls in order.
        count, waiting = 0, []
        for message in kwargs.get("messages") or []:
            for call in message.get("tool_calls") or []:
                count += 1
                call["id"] = f"call_{count}"
                waiting.append(call["id"])
            if message.get("role") == "tool" and waiting:
                message["tool_call_id"] = waiting.pop(0)
        return kwargs


instance = Gate()
