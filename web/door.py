"""The door of the pages, the admin, and all addresses that belong to no other door."""

from core.http.doors import PageDoor

PAGES = PageDoor("pages", ("/",))
