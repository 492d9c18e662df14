"""Values for tests."""

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
