"""The settings of webhooks; see settings.py."""

from typing import Literal

from pydantic import Field, field_validator

from services.kit.runtime.setting_groups import Group


class WebhookSettings(Group):
    """Webhooks of alerts."""

    prefix = "TRADEUL_WEBHOOK_"

    private: Literal["refuse", "allow"] = Field(
        default="refuse",
        description="TRADEUL_WEBHOOK_PRIVATE: allow = webhooks may also be at private addresses and at http:// URLs; "
        "whoever may create webhooks can then reach whatever the ticker service can reach",
    )

    @property
    def allows_private(self) -> bool:
        return self.private == "allow"

    @field_validator("private", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value
