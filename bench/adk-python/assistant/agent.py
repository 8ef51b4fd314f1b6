"""The agent as ADK's quickstart has one; adk api_server finds it by its folder's name."""

from google.adk.agents import Agent

root_agent = Agent(name="assistant", model="gemini-2.5-flash", instruction="You answer questions.")
