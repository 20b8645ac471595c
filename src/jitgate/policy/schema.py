"""The published JSON schema of a role file (docs/schema/role.schema.json, which a test compares)."""

import json

from jitgate.policy.role import Role


def role_schema() -> str:
    """JSON Schema 2020-12 of one document of a role file: a role or a list of roles.

    For editors. It knows the fields and their forms; loading knows the rest, and decides.
    """
    schema = Role.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs")
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "jitgate role file",
        "anyOf": [{"$ref": "#/$defs/Role"}, {"type": "array", "items": {"$ref": "#/$defs/Role"}}],
        "$defs": {**definitions, "Role": schema},
    }
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"
