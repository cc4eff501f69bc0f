"""Migrations: numbered, frozen, run by playhouse.migrations; see db.migrate()."""
