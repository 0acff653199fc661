"""The door of the pages, the admin and everything else that no other door stands before."""

from core.http.doors import PageDoor

PAGES = PageDoor("pages", ("/",))
