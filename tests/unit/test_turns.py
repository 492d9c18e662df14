"""Several holders want the same products."""

import asyncio

from serve_app.turns import Turns


async def test_product_is_one_holders_until_it_leaves():
    turns = Turns()
    assert await turns.take("one", ["a", "b"], 0)
    assert not await turns.take("two", ["b", "c"], 0)
    assert await turns.take("three", ["c"], 0)
    await turns.leave("one")
    assert await turns.take("two", ["a", "b"], 0)


async def test_who_waits_gets_its_turn():
    turns = Turns()
    await turns.take("one", ["a"], 0)
    waiting = asyncio.create_task(turns.take("two", ["a"], 30))
    await asyncio.sleep(0)
    assert not waiting.done()
    await turns.leave("one")
    assert await waiting


async def test_who_waits_holds_nothing():
    turns = Turns()
    await turns.take("one", ["a"], 0)
    waiting = asyncio.create_task(turns.take("two", ["a", "b"], 30))
    await asyncio.sleep(0)
    assert await turns.take("one", ["b"], 0)
    await turns.leave("one")
    assert await waiting


async def test_turn_of_one_that_died_ends():
    turns = Turns(lease_s=0.05)
    await turns.take("one", ["a"], 0)
    assert await turns.take("two", ["a"], 30)


async def test_turn_that_is_renewed_goes_on():
    now = [0.0]
    turns = Turns(lease_s=10, clock=lambda: now[0])
    await turns.take("one", ["a"], 0)
    now[0] = 9
    await turns.renew("one")
    now[0] = 18
    assert not await turns.take("two", ["a"], 0)
    now[0] = 20
    assert await turns.take("two", ["a"], 0)


async def test_holder_takes_its_own_again():
    turns = Turns()
    assert await turns.take("one", ["a"], 0)
    assert await turns.take("one", ["a", "b"], 0)


async def test_many_holders_are_never_at_one_product_together():
    turns, inside = Turns(), []

    async def work(number: int) -> None:
        products = [str(number % 3), str((number + 1) % 3)]
        assert await turns.take(str(number), products, 30)
        assert not set(products) & {product for other in inside for product in other}
        inside.append(products)
        await asyncio.sleep(0)
        inside.remove(products)
        await turns.leave(str(number))

    await asyncio.gather(*map(work, range(30)))
