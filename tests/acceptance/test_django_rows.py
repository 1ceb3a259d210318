"""MediaField and the rows of an app: whatever is saved, undone or deleted, no page loses its picture."""

from collections.abc import Iterator

import pytest

from tests.support.django_shop import DjangoShop, database_of, new_shop


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Beneath the app: one of both a day."""
    return str(request.param)


@pytest.fixture(scope="module")
def shop(
    request: pytest.FixtureRequest,
    django_version: str,
    database_kind: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[DjangoShop]:
    home = tmp_path_factory.mktemp("shop")
    shop = new_shop(home, django_version, {"default": database_of(database_kind, home, request)})
    yield shop
    shop.close()


def test_a_replacement_that_the_database_refuses_leaves_the_old_picture(shop: DjangoShop) -> None:
    shown = shop.trying(
        """
        photo("cat"), photo("dog", "other")
        media.deliver()
        cat = Photo.objects.get(title="cat")
        cat.title, cat.image = "dog", picture("new")
        try:
            cat.save()  # outside of a transaction, as is Django's default
        except IntegrityError:
            media.deliver()
            answer = [shown(Photo.objects.get(title="cat").image), states()]
        """
    )

    assert shown == [["ready", True], {"old": "ready", "other": "ready"}]


def test_a_row_that_the_database_refuses_has_sent_no_event(shop: DjangoShop) -> None:
    sent = shop.trying(
        """
        photo("cat")
        try:
            photo("cat", "second")
        except IntegrityError:
            answer = [len(media.sent), states()]
        """
    )

    assert sent == [1, {"old": "pending"}]


def test_what_was_rolled_back_is_announced_when_it_is_saved_again(shop: DjangoShop) -> None:
    shown = shop.trying(
        """
        photo()
        media.deliver()
        cat = Photo.objects.get()
        cat.image = picture("new")
        try:
            with transaction.atomic():
                cat.save()
                raise KeyError
        except KeyError:
            before = shown(Photo.objects.get().image)
        cat.save()
        media.deliver()
        answer = [before, shown(Photo.objects.get().image), states()]
        """
    )

    assert shown == [["ready", True], ["ready", True], {"new": "ready"}]


@pytest.mark.parametrize("delivered", ["", "media.deliver()"], ids=["in work", "replaced"])
def test_a_stale_instance_that_is_saved_has_its_old_picture_again(shop: DjangoShop, delivered: str) -> None:
    answer = shop.trying(
        f"""
        photo()
        media.deliver()
        stale, cat = Photo.objects.get(), Photo.objects.get()
        cat.image = picture("new")
        cat.save()
        {delivered}
        stale.title = "tom"
        stale.save()
        before = Photo.objects.get().image
        before = ["old" in before.name, *shown(before)]
        media.deliver()
        answer = [before, shown(Photo.objects.get().image)]
        """
    )

    assert answer == [[True, "pending", True], ["ready", True]]


@pytest.mark.parametrize("how", ["replaced", "deleted"])
def test_a_file_that_a_row_names_again_is_not_deleted(shop: DjangoShop, how: str) -> None:
    changes = {"replaced": "one.image = picture('new'); one.save()", "deleted": "one.delete()"}
    answer = shop.trying(
        f"""
        one, two = photo(), photo("dog", "other")
        media.deliver()
        with options(DELETE_AFTER=0 if {how!r} == "replaced" else 0.0001):
            name = one.image.name
            {changes[how]}
            Photo.objects.filter(pk=two.pk).update(image=name)  # which tells nobody
            announcing.send_due()
            media.deliver()
            media.deliver()
        answer = shown(Photo.objects.get(pk=two.pk).image)
        """
    )

    assert answer == ["ready", True]


def test_of_two_that_replace_a_picture_the_one_that_the_row_has_is_shown(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        photo()
        media.deliver()
        one, two = Photo.objects.get(), Photo.objects.get()
        one.image, two.image = picture("one"), picture("two")
        one.save()
        two.save()
        between = shown(Photo.objects.get().image)
        media.deliver()
        answer = [between, shown(Photo.objects.get().image), states()]
        """
    )

    assert answer == [["pending", True], ["ready", True], {"one": "deleting", "two": "ready"}]


def test_a_request_that_replaces_a_picture_waits_for_one_that_does_so(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        from threading import Event, Thread
        photo()
        media.deliver()
        has_read = Event()

        def tell(execute, *about):
            answer = execute(*about)
            has_read.set()
            return answer

        def second():
            cat = Photo.objects.get()
            cat.image = picture("two")
            with transaction.atomic(), connection.execute_wrapper(tell):
                cat.save()
            connection.close()

        other = Thread(target=second)
        with transaction.atomic():
            cat = Photo.objects.get()
            cat.image = picture("one")
            cat.save()
            other.start()
            has_read.wait(0.3)  # in vain
        other.join()
        media.deliver()
        answer = [shown(Photo.objects.get().image), states()]
        """
    )

    assert answer == [["ready", True], {"one": "deleting", "two": "ready"}]


def test_two_processes_may_announce_the_same_file_at_once(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        from threading import Event, Thread
        Photo.objects.bulk_create([Photo(title="cat")])
        Photo.objects.update(image="uploads/cat.jpg")
        answer, has_written = [], Event()

        def second():
            try:
                answer.append(announcing.announce_missing())
            except Exception as error:
                answer.append(repr(error))
            has_written.set()
            connection.close()

        other = Thread(target=second)
        with transaction.atomic():
            answer.append(announcing.announce_missing())
            other.start()
            has_written.wait(0.3)  # in vain
        other.join()
        answer.append(states())
        """
    )

    assert answer == [1, 1, {"cat": "pending"}]


def test_what_a_message_says_while_a_file_is_announced_again_is_kept(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        cat = photo()
        field = Photo._meta.get_field("image")
        field.owner = lambda cat: media.deliver() and ""  # a message that comes just then
        try:
            cat.image.save("old.jpg", picture("old"), save=False)
            cat.image.name = Upload.objects.get().source  # as with a storage that overwrites
            cat.save()
        finally:
            field.owner = ""
        answer = [shown(Photo.objects.get().image), Upload.objects.get().seq]
        """
    )

    assert answer == [["pending", True], 1]


def test_a_file_that_moves_to_another_field_or_row_keeps_its_variants(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        album = Album.objects.create(cover=picture("cover"), back=picture("back"))
        cat, dog = photo(), photo("dog", "other")
        media.deliver()
        before = len(media.sent)
        album.cover, album.back = album.back.name, album.cover.name
        album.save()
        cat.image = dog.image.name
        cat.save()
        files = (album.cover, album.back, cat.image)
        answer = [len(media.sent) - before, states(), [shown(one) for one in files]]
        """
    )

    states = {"cover": "ready", "back": "ready", "other": "ready", "old": "deleting"}
    assert answer == [0, states, [["ready", True]] * 3]


@pytest.mark.parametrize("rows", ["Photo.objects.only('title').get()", "Photo.objects.defer('image')"])
def test_a_row_may_be_deleted_whose_file_was_not_loaded(shop: DjangoShop, rows: str) -> None:
    assert shop.trying(f"photo(); {rows}.delete(); answer = states()") == {"old": "deleting"}


def test_a_stale_instance_that_is_deleted_takes_the_new_picture_along(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        stale = photo()
        media.deliver()
        cat = Photo.objects.get()
        cat.image = picture("new")
        cat.save()
        media.deliver()
        stale.delete()
        answer = states()
        """
    )

    assert answer == {"new": "deleting"}


def test_a_model_that_inherits_has_the_pictures_of_its_parent(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        Panorama.objects.create(title="sea", image=picture("old"), overview=picture("overview"))
        media.deliver()
        found = Panorama.objects.filter(image_upload__state="ready")
        [joined] = found.select_related("image_upload", "overview_upload")
        [fetched] = found.prefetch_related("image_upload")
        [deferred] = found.only("title")
        answer = [shown(one.image) for one in (joined, fetched, deferred)] + [shown(joined.overview)]
        joined.image = picture("new")
        joined.save()
        media.deliver()
        answer += [states()]
        joined.delete()
        answer += [states()]
        """
    )

    replaced = {"new": "ready", "overview": "ready"}
    assert answer == [["ready", True]] * 4 + [replaced, dict.fromkeys(replaced, "deleting")]


def test_a_proxy_and_bulk_create_announce_their_pictures(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        one = photo("one", "first", PhotoByAnotherName)
        Photo.objects.bulk_create([Photo(title="two", image=picture("second"))])
        media.deliver()
        one.image = picture("third")
        one.save()
        media.deliver()
        answer = [states()]
        PhotoByAnotherName.objects.all().delete()
        answer += [states()]
        """
    )

    assert answer == [{"second": "ready", "third": "ready"}, {"second": "deleting", "third": "deleting"}]


def test_an_instance_made_by_hand_replaces_what_its_row_has(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        cat, dog = photo(), photo("dog", "other")
        media.deliver()
        Photo(pk=cat.pk, title="cat", image=dog.image.name).save()
        answer = states()
        """
    )

    assert answer == {"old": "deleting", "other": "ready"}


def test_a_table_that_is_not_migrated_yet_stops_no_other_model_and_keeps_files(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        photo("cat"), photo("dog", "other")
        media.deliver()
        rename = "ALTER TABLE {} RENAME TO {}".format
        connection.cursor().execute(rename("shop_album", "shop_album_later"))
        try:
            with transaction.atomic(), SimpleTestCase().assertLogs("media_worker_django", "WARNING"):
                Photo.objects.get(title="cat").delete()
                dog = Photo.objects.get(title="dog")
                dog.image = picture("new")
                dog.save()
        finally:
            connection.cursor().execute(rename("shop_album_later", "shop_album"))
        media.deliver()
        answer = states()
        """
    )

    assert answer == {"old": "ready", "other": "ready", "new": "ready"}


def test_a_copy_is_made_of_all_fields_as_by_packages_that_keep_a_history(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        cat, dog = photo(), photo("dog", "other")
        fields = {field.name: getattr(cat, field.name) for field in Photo._meta.fields}
        media.deliver()
        copies = [Photo(**fields), Photo(**{**fields, "image_upload": None})]
        answer = [shown(one.image) for one in copies]
        try:
            Photo(**{**fields, "image_upload": dog.image_upload})
        except AttributeError as error:
            answer += [str(error)]
        """
    )

    told = "image_upload follows from the file; assign that."
    assert answer == [["pending", False], ["ready", True], told]


def test_the_answer_to_an_event_does_not_stand_for_one_that_has_not_reached_redis(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        photo()
        Upload.objects.update(due=timezone.now())  # as of an event about the same file that was not sent
        media.deliver()
        answer = [states(), announcing.send_due()]
        media.deliver()
        answer += [states(), Upload.objects.filter(due=None).count()]
        """
    )

    assert answer == [{"old": "ready"}, 1, {"old": "ready"}, 1]


def test_the_longer_an_event_has_no_answer_the_more_seldom_it_is_sent(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        photo()
        answer = []
        for waited in (0, 150, 86400):
            now = timezone.now()
            Upload.objects.update(due=now, changed=now - timedelta(seconds=waited))
            announcing.send_due()
            answer.append(round((Upload.objects.get().due - now).total_seconds() / 10) * 10)
        """
    )

    assert answer == [60, 150, 960]


def test_while_redis_is_away_one_event_a_round_finds_that_out(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        photo("cat"), photo("dog")
        Upload.objects.update(due=timezone.now())
        nobody = MediaClient("redis://127.0.0.1:1/0")
        with SimpleTestCase().assertLogs("media_worker_django") as logs, conf.instead(nobody):
            sent = announcing.send_due()
        due = Upload.objects.filter(due__lte=timezone.now())
        answer = [sent, len(logs.output), due.count()]
        """
    )

    assert answer == [0, 1, 2]


def test_a_redis_that_hangs_holds_up_one_request_a_moment_and_others_not_at_all(shop: DjangoShop) -> None:
    """It takes connections and answers nothing, as one that is stopped, or behind a network that is down."""
    answer = shop.trying(
        """
        from socket import create_server
        from time import monotonic
        fake = conf._instead.pop()
        try:
            with create_server(("127.0.0.1", 0)) as silent, options(
                REDIS_URL=f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
            ), SimpleTestCase().assertLogs("media_worker_django", "WARNING") as logs:
                began = monotonic()
                photo("cat", "cat")
                first = monotonic() - began
                photo("dog", "dog"), photo("cow", "cow")
                tries = len(logs.output)
        finally:
            conf._instead.append(fake)
        due = Upload.objects.filter(due__lte=timezone.now()).count()
        answer = [first, tries, due]
        announcing.send_due()
        media.deliver()
        answer.append(states())
        """
    )

    first, tries, due, afterwards = answer
    assert first < 4  # s: a second try would take 4
    assert (tries, due) == (1, 3)
    assert afterwards == {"cat": "ready", "dog": "ready", "cow": "ready"}


def test_a_message_of_a_later_worker_is_taken_as_far_as_it_is_understood(shop: DjangoShop) -> None:
    answer = shop.trying(
        """
        from media_worker_client.messages import parse_message
        from media_worker_django.receiving import receive
        photo()
        media.listen(lambda message: None)
        [told] = [dict(message.raw) for message in media.deliver()]
        Upload.objects.update(state="pending", seq=0, variants=[])
        hashes = {"thumbhash": told["thumbhash"] + 40 * "A", "blurhash": 400 * "x"}
        receive(parse_message({**told, **hashes, "original": {"color": "url(x)"}, "new": 1}))
        upload = Upload.objects.get()
        answer = [shown(Photo.objects.get().image), upload.thumbhash, upload.placeholder, upload.color]
        """
    )

    assert answer == [["ready", True], "", "", ""]
