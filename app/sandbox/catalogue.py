"""What the sandbox sells: the demo shops and their products, read from the shipped shop file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from app.core.errors import ConfigurationError
from app.knowledge.shipped import shipped_demo
from app.knowledge.yaml_text import YamlProblem, read_yaml

__all__ = ["Product", "Shop", "read_shops"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One product: its price in yuan, and the variant that the sandbox's buyers take."""

    id: str
    title: str
    category: str
    price: Decimal
    sku: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """One demo shop as a marketplace sees it. ``ship_within_hours``: the promise made at payment."""

    id: str
    name: str
    courier: str
    warehouse_city: str
    ship_within_hours: int
    products: tuple[Product, ...]


def read_shops(path: Path | None = None) -> tuple[Shop, ...]:
    """Read the demo shops; ``path``: their file, the shipped one unless given.

    Raises:
        ConfigurationError: the file is missing or is no list of shops with catalogues.
    """
    file = path or shipped_demo() / "shops.yaml"
    try:
        document = read_yaml(file.read_bytes(), numbers=True).value
        return tuple(_shop(shop) for shop in cast("Mapping[str, Any]", document)["shops"])
    except (OSError, YamlProblem, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{file.name}: no demo shops can be read from it ({error})") from error


def _shop(shop: Mapping[str, Any]) -> Shop:
    return Shop(
        id=str(shop["shop_id"]),
        name=str(shop["name"]),
        courier=str(shop["courier"]),
        warehouse_city=str(shop["warehouse_city"]),
        ship_within_hours=int(shop["ship_within_hours"]),
        products=tuple(_product(product) for product in shop["catalog"]),
    )


def _product(product: Mapping[str, Any]) -> Product:
    colors: list[Any] = product.get("colors") or []
    sizes: list[Any] = product.get("sizes") or []
    return Product(
        id=str(product["product_id"]),
        title=str(product["title"]),
        category=str(product["category"]),
        price=Decimal(str(product["price"])),
        sku=" ".join(str(choices[0]) for choices in (colors, sizes) if choices),
    )
