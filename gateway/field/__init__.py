"""Southbound: links, schedule and pollers. One task per bus; nobody else ever touches its port."""
