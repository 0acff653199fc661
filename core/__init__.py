"""What every app stands on: HTTP, access, the admin's base. No models; imports no other app."""
