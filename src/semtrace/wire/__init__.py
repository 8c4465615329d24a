"""The bytes between a traced server and its viewers: event records, state files, and where they lie.

    /dev/shm/semtrace-UID/PID-TICKS/        one directory for each traced server, named after its first traced process
        control                             one word that a viewer changes when it has made its FIFO
        PID-TICKS.state                     one for each traced process: what it holds, since when, where, counters
        totals                              what processes counted that have ended
        PID-TICKS-N.fifo                    one for each viewer, made by it; PID-TICKS is the viewer's own

Everything is little-endian and made of aligned 64-bit words, each stored by one instruction: a word is never torn.
Nothing here does I/O. The record is versioned by itself, the two files by a magic word and a version word.
"""

from __future__ import annotations

from semtrace.wire.event import EVENT as EVENT
from semtrace.wire.event import EVENT_MAGIC as EVENT_MAGIC
from semtrace.wire.event import EVENT_PREFIX as EVENT_PREFIX
from semtrace.wire.event import EVENT_SIZE as EVENT_SIZE
from semtrace.wire.event import EVENT_WORDS as EVENT_WORDS
from semtrace.wire.event import EventType as EventType
from semtrace.wire.event import Record as Record
from semtrace.wire.event import decode_event as decode_event
from semtrace.wire.event import decode_events as decode_events
from semtrace.wire.event import encode_event as encode_event
from semtrace.wire.event import event_prefix as event_prefix
from semtrace.wire.offsets import HEADER_WORDS as HEADER_WORDS
from semtrace.wire.offsets import LOCK_SLOTS as LOCK_SLOTS
from semtrace.wire.offsets import LOCK_WORDS as LOCK_WORDS
from semtrace.wire.offsets import LOCKS_AT as LOCKS_AT
from semtrace.wire.offsets import NAME_BYTES as NAME_BYTES
from semtrace.wire.offsets import SITE as SITE
from semtrace.wire.offsets import SITE_SLOTS as SITE_SLOTS
from semtrace.wire.offsets import SITES_AT_BYTES as SITES_AT_BYTES
from semtrace.wire.offsets import STATE_MAGIC as STATE_MAGIC
from semtrace.wire.offsets import STATE_SIZE as STATE_SIZE
from semtrace.wire.offsets import VIEWER_SLOTS as VIEWER_SLOTS
from semtrace.wire.offsets import VIEWER_WORDS as VIEWER_WORDS
from semtrace.wire.offsets import VIEWERS_AT as VIEWERS_AT
from semtrace.wire.offsets import Header as Header
from semtrace.wire.offsets import LockWord as LockWord
from semtrace.wire.offsets import Status as Status
from semtrace.wire.offsets import ViewerWord as ViewerWord
from semtrace.wire.offsets import encode_header as encode_header
from semtrace.wire.offsets import encode_name as encode_name
from semtrace.wire.offsets import encode_site as encode_site
from semtrace.wire.offsets import identity_word as identity_word
from semtrace.wire.offsets import lock_at as lock_at
from semtrace.wire.offsets import site_at as site_at
from semtrace.wire.offsets import site_id as site_id
from semtrace.wire.offsets import viewer_at as viewer_at
from semtrace.wire.place import CONTROL as CONTROL
from semtrace.wire.place import CONTROL_MAGIC as CONTROL_MAGIC
from semtrace.wire.place import CONTROL_SIZE as CONTROL_SIZE
from semtrace.wire.place import FIFO_SUFFIX as FIFO_SUFFIX
from semtrace.wire.place import RUN as RUN
from semtrace.wire.place import SERVER_VARIABLE as SERVER_VARIABLE
from semtrace.wire.place import SHM as SHM
from semtrace.wire.place import SHM_VARIABLE as SHM_VARIABLE
from semtrace.wire.place import STATE_SUFFIX as STATE_SUFFIX
from semtrace.wire.place import ControlWord as ControlWord
from semtrace.wire.place import control_is_valid as control_is_valid
from semtrace.wire.place import encode_control as encode_control
from semtrace.wire.place import fifo_name as fifo_name
from semtrace.wire.place import generation as generation
from semtrace.wire.place import parse_fifo_name as parse_fifo_name
from semtrace.wire.place import parse_process_name as parse_process_name
from semtrace.wire.place import parse_state_name as parse_state_name
from semtrace.wire.place import process_name as process_name
from semtrace.wire.place import server_directory as server_directory
from semtrace.wire.place import shm as shm
from semtrace.wire.place import state_name as state_name
from semtrace.wire.place import user_directories as user_directories
from semtrace.wire.place import user_directory as user_directory
from semtrace.wire.statefile import LockBook as LockBook
from semtrace.wire.statefile import Site as Site
from semtrace.wire.statefile import StateFile as StateFile
from semtrace.wire.statefile import decode_state as decode_state
from semtrace.wire.totals import TOTALS as TOTALS
from semtrace.wire.totals import TOTALS_SIZE as TOTALS_SIZE
from semtrace.wire.totals import Total as Total
from semtrace.wire.totals import Totals as Totals
from semtrace.wire.totals import decode_totals as decode_totals
from semtrace.wire.totals import encode_totals as encode_totals
from semtrace.wire.words import NOTHING as NOTHING
from semtrace.wire.words import VERSION as VERSION
from semtrace.wire.words import Flag as Flag
from semtrace.wire.words import Kind as Kind
from semtrace.wire.words import device_number as device_number
from semtrace.wire.words import semaphore as semaphore
from semtrace.wire.words import who as who
