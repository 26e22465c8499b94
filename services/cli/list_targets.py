"""`tradeul list-targets`: the table of services/modules.py."""

import click

from services.modules import GATEWAY_AFTER, GATEWAY_PORT, MODULES


@click.command()
def list_targets() -> None:
    """Print the services with their ports, dependencies and purposes."""
    rows = [(module.name, str(module.port), ", ".join(module.needs) or "-", module.does) for module in MODULES]
    rows.append(("gateway", str(GATEWAY_PORT), ", ".join(GATEWAY_AFTER), "Envoy, the gateway; `up` starts it"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, port, needs, does in rows:
        click.echo(f"{name:<{widths[0]}}  {port:>{widths[1]}}  {needs:<{widths[2]}}  {does}")
