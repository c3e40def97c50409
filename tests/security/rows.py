"""The list of what is demanded for security, in our own words, with the tests of each row: c1 to c29.

`test_rows.py` fails for a row without a test, and for a test that is not there. Rows of which this version has nothing yet say
so in `later`: keys in Redis and what is read from it (c16, c17), tenants (c18 in part, c19, c22, c26), labels of metrics (c15), a
share for each tenant (c24 in part) and budgets (c25) come with the issues that bring those things.
"""

from __future__ import annotations

import attrs

_HERE = "tests/security/"


def _tests(*names: str) -> tuple[str, ...]:
    """`file::test`, in this folder unless a folder is named."""
    return tuple(name if "/" in name else _HERE + name for name in names)


@attrs.frozen
class Row:
    demand: str
    tests: tuple[str, ...] = attrs.field(default=(), converter=lambda names: _tests(*names))
    later: str = ""
    """What is not there yet, and so has no test."""


ROWS: dict[str, Row] = {
    "c1": Row(
        "A key is stripped and checked when a client is made, and a refusal shows its fingerprint only.",
        (
            "test_keys.py::test_a_key_from_a_file_is_sent_without_the_blanks_around_it",
            "test_keys.py::test_a_key_that_could_break_a_header_is_refused_unseen",
            "tests/test_types.py::test_what_is_no_key",
        ),
    ),
    "c2": Row(
        "No frame of an error, no report of an error tracker and no pickle shows the key, the prompt or the answer.",
        (
            "test_told.py::test_no_frame_shows_a_canary",
            "test_told.py::test_sentry_gets_no_canary",
            "test_told.py::test_sentry_was_told_everything",
            "test_told.py::test_no_pickle_carries_key_or_prompt",
            "test_keys.py::test_a_client_that_cannot_be_made_shows_no_key",
            "test_keys.py::test_an_authorization_header_is_not_shown_in_part",
            "test_keys.py::test_a_secret_is_not_written_by_serialisers",
            "test_objects.py::test_a_client_does_not_travel",
            "test_objects.py::test_what_travels_is_free_of_the_key",
            "tests/test_types.py::test_secrets_compare_and_do_not_travel",
            "tests/test_transport.py::test_no_failure_shows_the_key",
        ),
    ),
    "c3": Row(
        "No repr of any object and no log line of any library shows the key; what looks like a key in a message is left out.",
        (
            "test_objects.py::test_no_object_shows_a_canary",
            "test_told.py::test_no_log_line_tells_a_canary",
            "test_told.py::test_no_error_tells_a_canary",
            "tests/test_errors.py::test_a_gateway_that_repeats_the_key_is_not_quoted",
        ),
    ),
    "c4": Row(
        "No redirect is followed, of the catalogue neither; it is an error that does not repeat where it points.",
        (
            "test_destinations.py::test_no_redirect_is_followed",
            "test_destinations.py::test_no_redirect_from_tls_to_none_is_followed",
            "tests/faults/test_status.py::test_redirects_lead_nowhere",
        ),
    ),
    "c5": Row(
        "Neither a .netrc nor cookies nor other variables change a request; proxies are asked for, their passwords not shown.",
        (
            "test_destinations.py::test_neither_netrc_nor_cookies_nor_user_agents_of_the_environment",
            "test_destinations.py::test_a_proxys_password_is_not_shown",
            "tests/test_transport_network.py::test_no_proxy_is_honoured",
        ),
    ),
    "c6": Row(
        "One rule for every header value, a fixed list of names that callers cannot set, and one for model ids.",
        (
            "test_headers.py::test_what_may_be_added_arrives_as_it_is",
            "test_headers.py::test_values_that_are_refused",
            "test_headers.py::test_names_that_are_refused",
            "test_headers.py::test_headers_of_the_environment_follow_the_same_rule",
            "test_headers.py::test_one_header_of_each_name",
            "test_headers.py::test_model_ids_that_are_refused",
            "tests/test_transport.py::test_a_header_cannot_break_out_of_its_line",
        ),
    ),
    "c7": Row(
        "A base URL is https (else plainly this machine), has no user, query or fragment, and is read in one way only.",
        (
            "tests/test_types.py::test_refused_urls",
            "test_destinations.py::test_a_host_that_two_parsers_may_read_differently_is_refused",
            "test_destinations.py::test_a_path_that_climbs_is_refused",
            "test_destinations.py::test_without_tls_only_what_is_plainly_this_machine",
            "test_destinations.py::test_what_is_accepted_means_one_origin",
        ),
    ),
    "c8": Row(
        "A key goes to the origin that it was given for, whatever address a request has.",
        (
            "test_destinations.py::test_the_key_goes_nowhere_but_to_its_origin",
            "test_destinations.py::test_without_a_key_too_nothing_goes_where_no_gateway_is",
            "test_destinations.py::test_two_gateways_of_one_client_get_each_its_own_key",
            "test_destinations.py::test_a_catalogue_path_cannot_lead_elsewhere",
            "tests/test_transport.py::test_the_key_goes_to_its_own_origin_only",
            "tests/test_config.py::test_a_key_does_not_follow_to_another_server",
        ),
    ),
    "c9": Row(
        "TLS is 1.2 or later and verified; nothing switches that off, and no variable adds authorities.",
        (
            "test_destinations.py::test_old_versions_of_tls_are_refused",
            "test_destinations.py::test_verification_cannot_be_switched_off",
            "test_destinations.py::test_the_environment_has_no_say_in_whom_to_trust",
            "tests/test_transport_network.py::test_a_certificate_for_another_name",
        ),
    ),
    "c10": Row(
        "Everything that is sent or read has a size that it cannot exceed, and the guide tells each.",
        (
            "test_bombs.py::test_every_cap_is_the_one_that_the_guide_tells",
            "test_bombs.py::test_a_request_that_is_too_large_is_not_sent",
            "test_bombs.py::test_the_refusal_of_a_stream_is_read_no_further_than_it_is_worth",
            "tests/faults/test_json.py::test_an_answer_that_is_too_large_ends_the_call",
            "tests/faults/test_sse.py::test_a_line_that_is_too_large_ends_the_call",
        ),
    ),
    "c11": Row(
        "Only gzip is asked for and opened, once, up to the cap; streams are not compressed.",
        (
            "test_bombs.py::test_only_what_was_asked_for_is_opened",
            "test_bombs.py::test_a_bomb_in_the_catalogue_is_not_opened_to_its_end",
            "tests/test_transport.py::test_a_bomb_is_not_opened_to_its_end",
            "tests/test_transport.py::test_a_stream_asks_for_no_compression",
            "test_supply.py::test_dependencies_are_those_whose_holes_are_closed",
        ),
    ),
    "c12": Row(
        "No JSON, however deep, long or odd, does more than to fail its own answer; none of ours is deeper than can be sent.",
        (
            "test_bombs.py::test_no_json_breaks_more_than_its_own_answer",
            "test_bombs.py::test_a_request_that_is_too_deep_is_refused",
            "tests/faults/test_json.py::test_what_is_no_answer_moves_on",
        ),
    ),
    "c13": Row(
        "A gateway's words are shown as one printable line of bounded length, and never used as a format.",
        (
            "test_words_of_gateways.py::test_foreign_words_are_one_short_printable_line",
            "tests/test_errors.py::test_what_upstream_says_is_no_format",
            "tests/test_errors.py::test_cleaned_words_are_one_short_line",
        ),
    ),
    "c14": Row(
        "No log tells what users wrote or models said; of moderation nothing is kept; a broken stream's text is data only.",
        (
            "test_words_of_gateways.py::test_the_log_does_not_repeat_what_a_gateway_says",
            "test_words_of_gateways.py::test_moderation_is_not_quoted",
            "test_told.py::test_no_log_line_tells_a_canary",
            "tests/test_promises.py::test_a_broken_stream_keeps_its_text_out_of_the_message",
        ),
    ),
    "c15": Row("Labels of metrics are of a bounded number.", later="there are no metrics yet"),
    "c16": Row("Keys in Redis cannot be forged by names of tenants.", later="there is no Redis yet"),
    "c17": Row(
        "What is read from a store is data, never code.",
        ("test_supply.py::test_no_data_becomes_code",),
        later="there is no Redis yet",
    ),
    "c18": Row(
        "No call gets another's answer: not after a fork, not on a connection with bytes left over.",
        (
            "tests/test_transport_life.py::test_a_forked_client_answers_its_own_questions",
            "tests/test_transport.py::test_bytes_that_nobody_asked_for_answer_nothing",
        ),
        later="between tenants, when there are any",
    ),
    "c19": Row("No tenant is taken for another.", later="there are no tenants yet"),
    "c20": Row(
        "Dev mode is asked for in clear words, refused in production, off the network, and told by every answer.",
        (
            "test_dev_mode.py::test_the_switch_takes_clear_words_only",
            "test_dev_mode.py::test_so_does_the_argument",
            "test_dev_mode.py::test_it_is_not_inferred_from_a_key_that_is_none",
            "test_dev_mode.py::test_production_refuses_it_however_it_is_asked_for",
            "test_dev_mode.py::test_every_made_up_answer_says_so",
            "test_dev_mode.py::test_no_byte_leaves_the_process",
            "test_dev_mode.py::test_a_client_stays_what_it_is",
        ),
    ),
    "c21": Row(
        "A .env file is read when named, without filling in, below the environment, and never quoted.",
        (
            "test_env_files.py::test_a_key_is_read_as_it_is_meant",
            "test_env_files.py::test_nothing_is_filled_in",
            "test_env_files.py::test_a_mark_in_the_middle_does_not_hide_a_variable_unnoticed",
            "test_env_files.py::test_no_folder_above_is_searched",
            "test_env_files.py::test_the_environment_wins_and_is_not_changed",
            "test_env_files.py::test_a_line_that_cannot_be_read_is_not_repeated",
            "test_env_files.py::test_only_settings_of_ours_are_read_from_it",
            "tests/test_config.py::test_a_file_does_not_get_the_environments_key",
        ),
    ),
    "c22": Row("Keys of tenants in the environment are read by an exact pattern.", later="there are no tenants yet"),
    "c23": Row(
        "Installing and importing runs nothing, fetches nothing, writes nothing.",
        (
            "test_supply.py::test_nothing_is_fetched_started_or_written_at_import_or_in_a_constructor",
            "test_supply.py::test_a_wheel_holds_the_package_and_nothing_that_runs_by_itself",
            "test_supply.py::test_the_package_folder_holds_nothing_else",
            "test_supply.py::test_no_code_runs_at_installation",
            "tests/test_house.py::test_nobody_pays_for_what_they_do_not_use",
        ),
    ),
    "c24": Row(
        "What is kept for each model is bounded in number, and what is broken is not forgotten for what is new.",
        (
            "test_growth.py::test_a_client_does_not_grow_with_the_models_asked",
            "test_growth.py::test_nor_does_an_async_one",
            "test_growth.py::test_a_crowd_of_models_does_not_wash_an_open_breaker_away",
            "tests/test_health.py::test_memory_is_bounded_and_open_breakers_are_kept",
        ),
        later="a share for each tenant, when there are any",
    ),
    "c25": Row("No request gets past a budget.", later="there are no budgets yet"),
    "c26": Row("An unknown tenant cannot be told from one that is not allowed.", later="there are no tenants yet"),
    "c27": Row(
        "What a gateway suggests adds no attempt, no model and no host.",
        ("test_words_of_gateways.py::test_a_gateway_orders_neither_attempts_nor_models_nor_hosts",),
    ),
    "c28": Row(
        "State is told as plain values and cannot be loaded.",
        ("test_supply.py::test_no_data_becomes_code", "test_objects.py::test_a_client_does_not_travel"),
    ),
    "c29": Row(
        "A time to wait that is handed on is a float of at most a day.",
        (
            "test_words_of_gateways.py::test_retry_after_is_a_day_at_most",
            "test_bombs.py::test_the_longest_wait_is_a_day",
        ),
    ),
}
