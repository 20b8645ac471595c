"""The hosts that an owner made known: what they are, how they join, what agents are told and what they say."""
