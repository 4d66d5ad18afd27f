"""The streams."""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import cached_property, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

import msgspec
from singer_sdk.pagination import SinglePagePaginator
from singer_sdk.singerlib.catalog import REPLICATION_INCREMENTAL
from singer_sdk.streams.rest import HTTPRequest, PageContext
from typing_extensions import override

from tap_unleash.bulk import BulkStream
from tap_unleash.client import Rejected, Unavailable, UnleashStream
from tap_unleash.errors import FatalError, UnleashError
from tap_unleash.page import EMPTY, InvalidResponse, decode_page
from tap_unleash.pagination import TotalPagesPaginator
from tap_unleash.progress import Progress
from tap_unleash.reader import Reader, WindowTooLong
from tap_unleash.rules import PageSizes
from tap_unleash.timestamps import format_timestamp, parse_timestamp
from tap_unleash.windows import DAY, PageRequest, TimeWindow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import requests
    from singer_sdk.helpers.types import Context, Record
    from singer_sdk.pagination import BaseAPIPaginator

    from tap_unleash.page import Page, Row

_NO_SUCH_PAGE = {400, 404, 410, 413, 422}
_TOO_LONG = {400, 413, 422}
_VERSION = re.compile(r'(?:\{(?:"version": ?)?)?"?([0-9A-Za-z]+(?:[.-][0-9A-Za-z]+)*)"?\}?')


class ListStream(UnleashStream):
    """A stream of the values of one response.

    Attributes:
        field: The only field of its records.
    """

    field: ClassVar[str]

    @override
    def get_new_paginator(self) -> BaseAPIPaginator[Any]:
        return SinglePagePaginator()

    @override
    def validate_response(self, response: requests.Response) -> None:
        super().validate_response(response)
        try:
            list(self.parse_response(response))
        except (msgspec.MsgspecError, ValueError) as error:
            msg = f"unexpected API response ({error})"
            raise Unavailable(msg, response) from None

    @override
    def parse_response(self, response: requests.Response) -> Iterable[Record]:
        body = b"null" if response.status_code == HTTPStatus.NO_CONTENT else response.content
        ids = msgspec.json.decode(body, type=list[str | int] | None)
        for value in dict.fromkeys(map(str, ids or ())):
            yield {self.field: value}

    @cached_property
    def values(self) -> list[str]:
        """The values of the response."""
        return [record[self.field] for record in self.request_records(None)]

    @property
    def selected_values(self) -> list[str]:
        """The values to emit."""
        return self.values

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        try:
            for value in self.selected_values:
                yield {self.field: value}
        except UnleashError as error:
            self.tap.isolate(f"stream '{self.name}'", error)


class ApiVersion(ListStream):
    """The version of the API."""

    name = "api_version"
    path = "/version"
    field = "version"
    primary_keys = ("version",)

    @override
    def parse_response(self, response: requests.Response) -> Iterable[Record]:
        # The vendor's page prints {"1.0.1"}, which is not JSON.
        if not (match := _VERSION.fullmatch(response.text.strip())):
            msg = "missing version"
            raise ValueError(msg)
        yield {self.field: match[1]}


class Devices(ListStream):
    """The devices that are extracted."""

    name = "devices"
    path = "/devices"
    field = "device_id"
    primary_keys = ("device_id",)

    @override
    @property
    def selected_values(self) -> list[str]:
        return self.tap.settings.select(self.values)


class Sessions(ListStream):
    """The sessions of the account."""

    name = "sessions"
    path = "/sessions"
    field = "session_id"
    primary_keys = ("session_id",)


class Analytics(BulkStream, UnleashStream):
    """The detections and metrics of all devices."""

    name = "analytics"
    path = "/{device_id}/{from}/{to}/{page}"
    primary_keys = ("record_id",)
    replication_key = "timestamp"
    is_sorted = True
    check_sorted = False  # the lookback window is read again

    _reader: Reader | None = None
    _progress: Progress | None = None

    @cached_property
    def _ranges(self) -> dict[str, TimeWindow | None]:
        return {}

    @override
    @cached_property
    def partitions(self) -> list[dict[str, Any]]:
        devices = self.tap.streams["devices"]
        try:
            ids = devices.selected_values  # type: ignore[attr-defined]
        except UnleashError as error:
            raise FatalError(str(error)) from error
        # A test of the connection takes one record.
        return [{"device_id": device_id} for device_id in ids[: self.ABORT_AT_RECORD_COUNT]]

    @override
    def get_http_request(self, *, page: PageContext[PageRequest]) -> HTTPRequest:
        assert page.next_page_token  # noqa: S101
        request = page.next_page_token
        tableau = self.tap.settings.response_format == "tableau"
        segments = (request.window.device_id, *request.bounds, request.number)
        path = "/".join(quote(str(segment), safe="") for segment in segments)
        return HTTPRequest(f"{self.url_base}{'/tableau' * tableau}/{path}")

    @override
    def get_new_paginator(self, window: TimeWindow | None = None) -> TotalPagesPaginator:
        assert window  # noqa: S101
        return TotalPagesPaginator(window, self._page_sizes)

    @cached_property
    def _page_sizes(self) -> PageSizes:
        return PageSizes()

    @cached_property
    def _prepared(self) -> requests.PreparedRequest:
        return self.build_prepared_request(method="GET", url=self.url_base)

    def fetch(self, request: PageRequest) -> Page:
        """Request a page; called by several threads.

        Args:
            request: The page.

        Returns:
            The page; an empty one if the API refuses it, though not the first.

        Raises:
            WindowTooLong: If a shorter window may be answered.
            UnleashError: If there is no valid response.
        """
        prepared = self._prepared.copy()  # much faster than a new one
        prepared.url = self.get_http_request(page=PageContext(None, request)).url
        splittable, later = request.window.splittable, request.number > 1
        try:
            send: Any = self.request_decorator(partial(self._send, request))
            page: Page = send(prepared, None)
        except Rejected as error:
            if later and error.status in _NO_SUCH_PAGE:
                return EMPTY
            if splittable and error.status in _TOO_LONG:
                raise WindowTooLong(str(error)) from error
            raise
        except Unavailable as error:
            if later and splittable and error.overload:
                return EMPTY
            if splittable and error.overload:
                raise WindowTooLong(str(error)) from error
            raise
        return page

    def _send(
        self,
        request: PageRequest,
        prepared: requests.PreparedRequest,
        _context: Context | None,
    ) -> Any:  # noqa: ANN401 - a page, where the SDK has a response
        try:
            response = self.requests_session.send(
                prepared, timeout=self.timeout, allow_redirects=self.allow_redirects
            )
            self.validate_response(response)
            if response.status_code == HTTPStatus.NO_CONTENT:
                return EMPTY
            return decode_page(
                response.content,
                device_id=request.window.device_id,
                number=request.number,
                on_unknown_field=self.tap.warn_of_unknown_field,
            )
        except InvalidResponse as error:
            msg = f"unexpected API response ({error})"
            raise Unavailable(msg) from None
        except Unavailable as error:
            error.overload |= error.response is not None and request.number > 1
            if error.overload and request.window.splittable:
                error.tries = 2
            raise

    @override
    @contextmanager
    def reading_ahead(self, contexts: Sequence[Context]) -> Iterator[None]:
        ranges = (window for context in contexts if (window := self._range(context)))
        self._reader = self._new_reader(ranges)
        self._progress = Progress(len(contexts), self.logger)
        try:
            with self._progress:
                yield
        finally:
            self._reader.close()
            self._reader = self._progress = None

    def _new_reader(self, ranges: Iterable[TimeWindow]) -> Reader:
        concurrency = self.tap.settings.concurrency
        return Reader(self.fetch, self.get_new_paginator, concurrency, ranges)

    @override
    def get_windows(self, context: Context) -> Iterator[list[Row]]:
        reader = self._reader or self._new_reader([])
        device_id = context["device_id"]
        try:
            wanted = self._range(context)
            for window, paginator in reader.read(wanted) if wanted else ():
                if paginator.missing is not None:
                    self.logger.warning(
                        "Records of device %r at %s are gone: the API deleted them",
                        device_id,
                        format_timestamp(paginator.missing),
                    )
                if paginator.rows:
                    yield paginator.rows
                if self._progress and wanted:
                    share = (window.end - wanted.start) / wanted.duration
                    self._progress.advance(len(paginator.rows), share)
        except UnleashError as error:
            self.tap.isolate(f"device {device_id!r}", error)
        finally:
            if self._progress:
                self._progress.advance(0, 1)
            if reader is not self._reader:
                reader.close()

    def _range(self, context: Context) -> TimeWindow | None:
        """Return the range to read of a device, if any."""
        device_id = context["device_id"]
        if device_id not in self._ranges:
            self._ranges[device_id] = self._new_range(context)
        return self._ranges[device_id]

    def _new_range(self, context: Context) -> TimeWindow | None:
        settings, device_id = self.tap.settings, context["device_id"]
        start, end, known = settings.start, settings.end + 1, None
        value = self.get_context_state(context).get("replication_key_value")
        if value and self.replication_method == REPLICATION_INCREMENTAL:
            try:
                _, bookmark = parse_timestamp(value)
            except (TypeError, ValueError, OverflowError):
                msg = (
                    f"Invalid bookmark {value!r} for device {device_id!r} in the state. Correct "
                    "it, or remove the partition to sync the device from 'start_date'."
                )
                raise FatalError(msg) from None
            start = max(bookmark - settings.lookback, min(start, bookmark))
            known = bookmark if start <= bookmark < end <= bookmark + DAY else None
        return TimeWindow(device_id, start, end, known=known) if start < end else None
