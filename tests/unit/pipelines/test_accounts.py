"""Accounts: each owner pays for the CPU time that its pictures take, however they end."""

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest

from pipelines.accounts import Accounts, Meter
from pipelines.batch import BatchContext, process_uploads
from pipelines.recipe import DEFAULT, Variant
from pipelines.sandbox import Sandbox, open_sandbox
from storage.blobs import Storage
from storage.catalog.opening import Catalog
from storage.totals import OwnerCost
from tests.support.batches import Uploads, batch_context
from tests.support.sandboxes import ROGUE, allowance, jpeg, ordered
from tests.support.sweeps import Clock


async def spent(context: BatchContext, uploads: Uploads, name: str, content: bytes) -> OwnerCost:
    """What an upload of that content costs its owner."""
    upload_id = await uploads.put(name, content)
    await process_uploads([upload_id], await uploads.job_id(upload_id), context)
    [cost] = context.accounts.take_unsaved()
    return cost


async def test_an_upload_that_is_made_again_costs_its_owner_and_is_no_other_upload(
    catalog: Catalog, blobs: Storage, sandbox: Sandbox, uploads: Uploads
) -> None:
    context = batch_context(catalog, blobs, sandbox)
    first = await spent(context, uploads, "mia/cat.jpg", jpeg(2000, 1500))
    more = replace(DEFAULT, variants=(*DEFAULT.variants, Variant("small", 400)))
    again = await spent(replace(context, recipes={"default": more}), uploads, "mia/cat.jpg", jpeg(2000, 1500))
    other = await spent(context, uploads, "mia/cat.jpg", jpeg(1000, 1500))

    assert [one.uploads for one in (first, again, other)] == [1, 0, 1]
    assert again.cpu_ms >= 1


async def test_a_ready_upload_costs_its_folder_cpu_time_and_the_bytes_that_were_read(
    catalog: Catalog, blobs: Storage, sandbox: Sandbox, uploads: Uploads
) -> None:
    picture = jpeg(2000, 1500)
    cost = await spent(batch_context(catalog, blobs, sandbox), uploads, "mia/cat.jpg", picture)

    assert (cost.owner, cost.uploads, cost.bytes) == ("mia", 1, len(picture))
    assert 1 <= cost.cpu_ms < 2000


async def test_a_picture_that_runs_out_of_time_costs_all_its_tries_and_their_decoders(
    catalog: Catalog, blobs: Storage, rogue: Sandbox, uploads: Uploads
) -> None:
    cost = await spent(batch_context(catalog, blobs, rogue), uploads, "mia/slow.jpg", ordered("spin"))

    assert (cost.owner, cost.uploads) == ("mia", 1)
    assert cost.cpu_ms >= 200


async def test_a_picture_that_ends_its_decoder_pays_for_the_start_of_the_next(
    catalog: Catalog, blobs: Storage, uploads: Uploads
) -> None:
    async with open_sandbox(allowance(), (*ROGUE, "starts slowly")) as rogue:
        context = batch_context(catalog, blobs, rogue)
        quiet = await spent(context, uploads, "mia/good.jpg", jpeg())
        fatal = await spent(context, uploads, "mia/bad.jpg", ordered("abort"))

    assert quiet.cpu_ms < 50
    assert fatal.cpu_ms >= 50


async def test_behind_slow_pictures_of_one_owner_that_of_another_is_next(
    catalog: Catalog, blobs: Storage, uploads: Uploads
) -> None:
    accounts = Accounts()
    slow = [await uploads.put(f"greedy/{n}.jpg", ordered("spin") + bytes(n)) for n in range(4)]
    quick = await uploads.put("mia/cat.jpg", jpeg())
    ended: list[UUID | None] = []
    async with open_sandbox(allowance(seconds=0.2), (*ROGUE, "starts"), accounts=accounts) as sandbox:
        context = batch_context(
            *(catalog, blobs, sandbox),
            on_committed=lambda messages: ended.extend(message.id for message in messages),
            share=2,
            accounts=accounts,
        )
        jobs = [(each, await uploads.job_id(each)) for each in (*slow, quick)]
        await asyncio.gather(*(process_uploads([each], job_id, context) for each, job_id in jobs))

    assert ended.index(quick) <= 2  # of five: on a busy machine it may come while the second one begins


async def test_an_upload_that_is_tried_again_later_counts_once_it_ends(
    catalog: Catalog, blobs: Storage, sandbox: Sandbox, uploads: Uploads
) -> None:
    context = batch_context(catalog, blobs, sandbox)
    upload_id = await uploads.announce("mia/late.jpg")
    await process_uploads([upload_id], await uploads.job_id(upload_id), context)

    assert context.accounts.take_unsaved() == [OwnerCost("mia", 0, 0, 0)]


def test_what_was_used_counts_half_after_a_minute_and_nothing_some_day() -> None:
    clock = Clock()
    clock.stop_at(1000)
    accounts = Accounts(clock)
    accounts.use("mia", 8.0)
    clock.stop_at(1060)
    accounts.use("mia", 1.0)
    later = accounts.used_s("mia")
    clock.stop_at(4660)
    accounts.take_unsaved()

    assert later == pytest.approx(5.0)
    assert accounts.used_s("mia") == accounts.used_s("leo") == 0.0


def test_a_try_without_a_decoder_counts_a_little() -> None:
    accounts = Accounts()
    accounts.debit(Meter("mia"), uploads=0)

    assert 0 < accounts.used_s("mia") < 0.1
    assert accounts.take_uses() == {"mia": 10}
    assert accounts.take_uses() == {}


def test_what_other_workers_have_saved_counts_by_its_age_beside_what_is_not_saved_yet() -> None:
    clock = Clock()
    clock.stop_at(1000)
    accounts = Accounts(clock)
    accounts.use("mia", 1.0)
    accounts.learn({"mia": [(60_000, 8000), (0, 2000)], "leo": [(120_000, 4000)]})
    accounts.learn({"mia": []})

    assert accounts.used_s("mia") == pytest.approx(7.0)
    assert accounts.used_s("leo") == pytest.approx(1.0)


def test_uses_that_could_not_be_saved_are_taken_again() -> None:
    accounts = Accounts()
    accounts.use("mia", 1.0)
    accounts.return_uses(accounts.take_uses())
    accounts.use("mia", 0.5)

    assert accounts.take_uses() == {"mia": 1500}


def test_what_could_not_be_saved_is_taken_again_with_the_rest() -> None:
    accounts = Accounts()
    accounts.debit(Meter("mia", 0.5, 100), uploads=1)
    unsaved = accounts.take_unsaved()
    accounts.debit(Meter("mia", 0.25, 10), uploads=1)
    accounts.return_unsaved(unsaved)

    assert accounts.take_unsaved() == [OwnerCost("mia", 750, 2, 110)]
    assert accounts.take_unsaved() == []
