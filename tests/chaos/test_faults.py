"""Every fault that this worker is to survive, by number, and the test that says so, or why there is none."""

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
_S3 = "S3 is refused by the settings until it is built"
_POSTGRES = "Postgres is refused by the settings until it is built"

FAULTS: dict[int, tuple[str, list[str]]] = {
    1: (
        "A worker is killed at any step",
        [
            "test_fault_01_a_worker_killed_between_two_promises_loses_nothing_and_makes_nothing_twice",
            "test_fault_01_a_kill_the_first_or_the_nth_time_at_any_step_of_any_way_is_made_good",
            "test_fault_01_10_of_two_workers_one_may_die_or_freeze_and_all_is_ready_20_s_later_at_most",
        ],
    ),
    2: ("A decoder is killed", ["test_fault_02_a_decoder_that_is_killed_costs_nobody_an_attempt"]),
    3: (
        "A picture crashes each decoder",
        ["test_of_a_hundred_uploads_the_three_that_kill_their_decoder_fail_alone"],
    ),
    4: ("A decoder takes too much memory", ["test_a_decoder_that_takes_more_memory_than_announced_is_ended"]),
    5: ("A decoder takes too long", ["test_a_decoder_that_never_answers_is_ended_soon_after_its_time"]),
    6: (
        "SIGTERM while jobs run",
        [
            "test_sigterm_in_the_middle_of_a_batch_counts_no_attempt_and_leaves_nothing",
            "test_sigterm_ends_within_the_shutdown_wait_though_a_picture_hangs",
            "test_fault_06_08_a_sigterm_at_any_step_is_obeyed_and_costs_nobody_anything",
        ],
    ),
    7: ("Twenty deploys in a row", ["test_twenty_deploys_in_a_row_lose_nothing_and_blame_nobody"]),
    8: (
        "SIGTERM while a job starts",
        ["test_fault_08_a_sigterm_while_a_job_starts_leaves_no_lock_and_no_blame"],
    ),
    9: (
        "SIGTERM twice, or while Redis hangs",
        [
            "test_a_second_sigterm_hands_back_what_is_in_hand_and_ends_at_once",
            "test_fault_09_a_worker_whose_redis_hangs_ends_at_sigterm_all_the_same",
        ],
    ),
    10: (
        "A worker freezes for long",
        [
            "test_a_worker_frozen_longer_than_its_lease_is_fenced",
            "test_fault_10_what_a_writer_that_a_deletion_has_fenced_publishes_late_is_an_orphan",
        ],
    ),
    11: (
        "The event loop is blocked for long",
        ["test_fault_11_a_worker_whose_loop_was_blocked_for_long_is_fenced"],
    ),
    12: (
        "Redis is killed, refuses, hangs",
        [
            "test_fault_12_17_18_the_worker_is_at_work_within_ten_seconds_of_the_return_of_its_redis",
            "test_a_worker_that_was_at_work_waits_for_a_storage_that_is_away_when_redis_comes_back",
        ],
    ),
    13: (
        "Redis goes while a job finishes",
        ["test_fault_13_a_job_that_cannot_say_that_it_has_finished_is_not_done_twice"],
    ),
    14: (
        "Redis loses everything",
        [
            "test_fault_14_a_hundred_queued_uploads_outlive_a_redis_that_lost_everything",
            "test_fault_14_events_that_nobody_had_taken_come_back_by_adoption_after_the_grace",
        ],
    ),
    15: ("Connections are cut all the time", ["test_fault_15_a_storm_of_cut_connections_loses_nothing"]),
    16: (
        "Transactions are cut, replies are lost",
        ["test_fault_16_transactions_that_are_cut_or_whose_reply_is_lost_make_nothing_twice"],
    ),
    17: (
        "Redis is out of memory",
        [
            "test_fault_12_17_18_the_worker_is_at_work_within_ten_seconds_of_the_return_of_its_redis",
            "test_fault_12_17_18_56_health_is_red_while_redis_is_away_and_the_log_tells_each_change_once",
        ],
    ),
    18: (
        "Redis cannot save, or is a replica",
        ["test_fault_12_17_18_the_worker_is_at_work_within_ten_seconds_of_the_return_of_its_redis"],
    ),
    19: (
        "Redis evicts, or has no file",
        ["test_fault_19_a_redis_without_file_that_evicts_or_is_a_replica_is_warned_of_by_name"],
    ),
    20: (
        "Malformed events and jobs",
        [
            "test_malformed_events_of_every_kind_between_good_ones_harm_none",
            "test_fault_20_21_jobs_that_arq_cannot_read_end_no_worker_and_hold_up_no_queue",
        ],
    ),
    21: (
        "Hostile ids, scores and types in the queue",
        [
            "test_fault_20_21_jobs_that_arq_cannot_read_end_no_worker_and_hold_up_no_queue",
            "test_fault_21_a_queue_of_jobs_of_another_type_heals",
        ],
    ),
    22: ("A job without its payload", ["test_fault_22_25_jobs_whose_payload_has_gone_are_requeued"]),
    23: (
        "The same event again, at once, while it runs",
        [
            "test_two_events_for_one_source_are_one_upload",
            "test_events_that_come_at_once_end_as_the_last_one_wants",
            "test_events_while_an_upload_is_processed_end_as_the_last_one_wants",
        ],
    ),
    24: (
        "Dead ids at the head of the queue",
        ["test_fault_24_two_hundred_dead_ids_at_the_head_of_the_queue_hold_nobody_up"],
    ),
    25: ("A job expires", ["test_fault_22_25_jobs_whose_payload_has_gone_are_requeued"]),
    26: (
        "An error that stays",
        ["test_fault_26_an_error_that_stays_ends_as_failed_and_a_person_can_try_again"],
    ),
    27: (
        "Two sweepers at once",
        [
            "test_only_one_sweep_is_at_work_at_a_time",
            "test_a_lease_of_a_sweeper_that_died_runs_out",
            "test_fault_27_50_a_sweep_that_is_killed_at_any_step_is_finished_by_the_next",
        ],
    ),
    28: (
        "Clocks differ",
        [
            "test_an_entry_is_taken_wherever_its_id_lies_and_so_are_later_ones",
            "test_a_stream_that_lies_ahead_is_a_warning_that_names_a_command",
            "test_changes_and_deletes_of_earlier_uploads_are_done_when_a_stream_begins_anew",
            "test_a_worker_whose_clock_is_slow_takes_every_event",
        ],
    ),
    29: (
        "Another program locks the catalog",
        ["test_fault_29_a_catalog_that_another_writer_locks_for_long_is_waited_for"],
    ),
    31: ("A commit fails", ["test_fault_31_32_a_catalog_that_cannot_commit_is_waited_for"]),
    32: (
        "The disk is full at any write",
        [
            "test_fault_32_33_a_disk_that_fails_once_at_any_write_delays_an_upload_and_leaves_nothing",
            "test_fault_32_a_worker_whose_log_cannot_be_written_does_its_work",
            "test_fault_32_33_35_a_storage_that_is_down_is_waited_for_and_blames_nobody",
        ],
    ),
    33: (
        "The disk fails at any write",
        ["test_fault_32_33_a_disk_that_fails_once_at_any_write_delays_an_upload_and_leaves_nothing"],
    ),
    34: (
        "The power goes",
        ["test_fault_34_everything_is_durable_before_what_relies_on_it_is_said"],
    ),
    35: (
        "The storage is read-only, denied or gone",
        [
            "test_fault_32_33_35_a_storage_that_is_down_is_waited_for_and_blames_nobody",
            "test_fault_35_a_root_that_vanishes_under_a_worker_is_waited_for",
            "test_a_worker_does_not_start_on_a_root_that_is_not_its_catalogs",
        ],
    ),
    37: (
        "The original goes or changes",
        [
            "test_an_event_without_a_file_fails_after_it_was_looked_for_again",
            "test_a_source_that_changes_while_it_is_read_is_tried_again_and_never_mixed",
        ],
    ),
    38: (
        "Bombs",
        [
            "test_a_bomb_is_refused_within_100_ms_and_50_mib",
            "test_too_many_pixels_are_refused_from_the_header_in_no_time",
        ],
    ),
    39: (
        "Truncated pictures",
        [
            "test_half_a_jpeg_is_refused_and_not_half_grey",
            "test_a_jpeg_with_a_hole_in_the_middle_is_refused_too",
        ],
    ),
    40: ("What is no picture", ["test_what_is_no_picture_is_refused_in_words_for_a_person"]),
    41: ("Mutated pictures", ["test_a_hundred_mutants_end_in_variants_or_an_error_code"]),
    42: (
        "Unusual pictures",
        [
            "test_a_picture_with_an_exif_orientation_is_upright",
            "test_cmyk_without_a_profile_has_the_colours_that_print_would_have",
            "test_a_profile_that_is_broken_or_of_another_colour_space_is_ignored",
        ],
    ),
    43: (
        "Links, pipes and hostile names",
        [
            "test_every_verb_refuses_hostile_keys",
            "test_a_source_that_is_no_plain_file_is_refused_soon",
            "test_a_folder_that_leads_out_of_the_root_is_not_followed",
        ],
    ),
    44: (
        "A sweep between file and row",
        [
            "test_a_young_file_is_left_to_its_writer",
            "test_a_file_that_gets_a_record_after_the_plan_stays",
            "test_a_writer_between_some_steps_of_a_sweep_keeps_row_and_file_together",
            "test_a_writer_between_any_steps_of_a_sweep_keeps_row_and_file_together",
        ],
    ),
    45: (
        "A sweep while a writer is frozen",
        [
            "test_a_row_cannot_take_a_key_that_is_condemned_and_tries_again",
            "test_a_worker_that_was_frozen_while_its_file_was_taken_and_purged_publishes_it_again",
        ],
    ),
    46: (
        "A file with an old date arrives",
        ["test_fault_46_a_file_that_keeps_an_old_date_is_as_young_as_its_arrival"],
    ),
    47: (
        "A sweep beside an empty catalog, or half a listing",
        [
            "test_an_empty_catalog_beside_a_full_disk_stops_the_sweep",
            "test_fault_47_a_listing_that_breaks_off_moves_nothing",
        ],
    ),
    48: (
        "An implausible plan",
        [
            "test_an_implausible_plan_touches_nothing_until_a_person_has_looked",
            "test_a_sweep_that_is_stopped_touches_nothing_and_says_so_everywhere",
        ],
    ),
    49: (
        "One orphan among everything else",
        [
            "test_an_old_file_without_a_record_goes_to_the_trash_and_all_else_stays",
            "test_an_old_file_of_this_kind_stays_beside_an_orphan_that_goes",
            "test_a_young_file_of_this_kind_stays_beside_an_orphan_that_goes",
            "test_a_restored_file_stays_beside_an_orphan_that_goes",
        ],
    ),
    50: (
        "A sweep that is killed, a purge that finds more than it should",
        [
            "test_a_sweep_that_is_killed_at_some_step_is_finished_when_it_is_run_again",
            "test_a_sweep_that_is_killed_at_any_step_is_finished_when_it_is_run_again",
            "test_fault_27_50_a_sweep_that_is_killed_at_any_step_is_finished_by_the_next",
            "test_marks_of_a_sweep_that_died_end_as_if_it_had_moved_everything",
            "test_a_purge_spares_what_is_young_and_what_a_row_holds_again",
        ],
    ),
    51: (
        "The lease of a sweeper is lost",
        ["test_fault_51_a_sweeper_that_has_lost_its_lease_touches_nothing_more"],
    ),
    52: (
        "Stats beside writers",
        [
            "test_whatever_happens_to_uploads_the_totals_are_what_one_counts",
            "test_a_wrong_total_is_found_and_corrected_though_others_write_meanwhile",
            "test_the_bytes_in_the_stats_are_those_on_the_disk",
        ],
    ),
    53: (
        "A batch with bad pictures in it",
        ["test_of_a_hundred_uploads_the_three_that_kill_their_decoder_fail_alone"],
    ),
    54: (
        "Everything at once",
        ["test_fault_54_six_seconds_of_everything_at_once_lose_nothing"],
    ),
    55: (
        "An older worker beside a newer one",
        [
            "test_fault_55_jobs_that_another_version_wrote_are_requeued_by_this_one",
            "test_a_newer_schema_is_refused_in_words",
        ],
    ),
    56: (
        "A worker that hangs or stalls",
        [
            "test_fault_56_a_frozen_worker_is_told_as_unwell_within_30_seconds",
            "test_fault_12_17_18_56_health_is_red_while_redis_is_away_and_the_log_tells_each_change_once",
            "test_the_health_check_is_good_with_a_worker_on_this_host_and_bad_without",
            "test_fault_56_a_health_check_whose_redis_is_silent_ends_all_the_same",
        ],
    ),
    57: (
        "Another redis-py, inherited settings",
        [
            "test_fault_57_the_installed_arq_and_redis_are_those_that_were_measured",
            "test_fault_57_the_settings_are_arqs_own_and_what_inherits_them_is_refused_at_once",
        ],
    ),
}

WITHOUT_A_TEST: dict[int, tuple[str, str]] = {
    30: ("Postgres restarts, a transaction cannot be serialized", _POSTGRES),
    36: ("S3 fails, is slow, or lists late", _S3),
}


@cache
def _names_of_all_tests() -> frozenset[str]:
    trees = [ast.parse(path.read_text()) for path in TESTS.rglob("test_*.py")]
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, functions))


def test_every_fault_has_a_test_or_a_reason_why_not() -> None:
    assert sorted([*FAULTS, *WITHOUT_A_TEST]) == list(range(1, 58))


@pytest.mark.parametrize("number", FAULTS)
def test_the_tests_of_a_fault_exist(number: int) -> None:
    assert set(FAULTS[number][1]) <= _names_of_all_tests()
