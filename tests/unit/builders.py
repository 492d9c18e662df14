"""Values for tests."""

from serve_app.calibration import Curve
from serve_app.domain import Hit, View


def hit(product_id: str, score: float, image_id: str = "", view: View = View.WHOLE, **data: object) -> Hit:
    image_id = image_id or f"{product_id}-{score}"
    return Hit(
        row_id=f"{image_id}#{view}",
        score=score,
        image_id=image_id,
        view=view,
        product_id=product_id,
        parent_id="",
        category="",
        price=-1,
        currency="",
        in_stock=True,
        data=data,
    )


def curve(model: str = "0123456789ab") -> Curve:
    """Return a curve by which a higher score, a greater lead and a smaller gap make a product likelier."""
    return Curve(
        model=model, mean=(0.5, 1, 1, 0.5), scale=(0.1, 1, 1, 0.3), weights=(0.5, 0.8, -0.7, 0.2), intercept=0.3
    )
