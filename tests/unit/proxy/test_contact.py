"""Silence of control: counted by the worker's own ticks, ended by any word."""

from __future__ import annotations

import pytest

from agent.proxy.contact import TICK_SECONDS, Contact, NoContact


def silent(contact: Contact, ticks: int) -> list[bool]:
    return [contact.tick() for _ in range(ticks)]


def test_new_connections_are_refused_after_the_limit() -> None:
    contact = Contact(limit_seconds=3 * TICK_SECONDS)
    assert silent(contact, 2) == [False, False]
    contact.require()
    assert contact.tick()
    with pytest.raises(NoContact, match="control has not answered for 3 s"):
        contact.require()


def test_it_is_reported_once() -> None:
    contact = Contact(limit_seconds=2 * TICK_SECONDS)
    assert silent(contact, 5) == [False, True, False, False, False]


def test_any_word_ends_it() -> None:
    contact = Contact(limit_seconds=2 * TICK_SECONDS)
    assert not contact.heard()
    silent(contact, 4)
    assert contact.heard()
    contact.require()
    assert not contact.heard()
