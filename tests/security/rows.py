"""The list of what is demanded for security, in our own words, with the tests of each row: c1 to c29.

`test_rows.py` fails for a row without a test, and for a test that is not there. Rows of which this version has nothing yet say
so in `later`: labels of metrics (c15) come with the issue that brings metrics.
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
            "test_tenants.py::test_a_gateway_that_quotes_another_key_is_not_quoted",
            "test_keys.py::test_a_key_in_a_wrong_argument_is_not_repeated",
            "test_keys.py::test_a_key_asked_for_by_itself_is_not_repeated",
            "test_keys.py::test_what_is_told_of_a_key_does_not_hold_it",
        ),
    ),
    "c4": Row(
        "No redirect is followed, of the catalogue neither; it is an error that does not repeat where it points.",
        (
            "test_destinations.py::test_no_redirect_is_followed",
            "test_destinations.py::test_no_redirect_from_tls_to_none_is_followed",
            "tests/faults/test_status.py::test_redirects_lead_nowhere",
            "test_destinations.py::test_no_redirect_of_a_public_list_is_followed",
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
            "test_headers.py::test_a_gateway_cannot_have_the_title_in_any_header",
            "test_headers.py::test_aliases_follow_the_rule_of_model_ids",
            "test_headers.py::test_prefixes_that_are_none",
            "test_headers.py::test_a_prefix_is_taken_off_once",
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
            "test_destinations.py::test_every_address_of_a_gateway_follows_the_one_rule",
            "test_destinations.py::test_a_path_of_a_gateway_is_a_plain_one",
            "test_destinations.py::test_a_path_that_is_accepted_stays_at_home",
            "test_destinations.py::test_no_list_leads_to_a_private_address",
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
            "test_destinations.py::test_a_public_list_is_asked_without_the_key_be_it_next_door",
            "test_destinations.py::test_a_key_refused_at_one_gateway_is_not_tried_at_the_other",
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
            "test_bombs.py::test_nor_is_one_in_a_second_list_or_in_news_of_a_key",
        ),
    ),
    "c12": Row(
        "No JSON, however deep, long or odd, does more than to fail its own answer; none of ours is deeper than can be sent.",
        (
            "test_bombs.py::test_no_json_breaks_more_than_its_own_answer",
            "test_bombs.py::test_a_request_that_is_too_deep_is_refused",
            "tests/faults/test_json.py::test_what_is_no_answer_moves_on",
            "test_score_file.py::test_no_content_does_more_than_to_order",
        ),
    ),
    "c13": Row(
        "A gateway's words are shown as one printable line of bounded length, and never used as a format.",
        (
            "test_words_of_gateways.py::test_foreign_words_are_one_short_printable_line",
            "tests/test_errors.py::test_what_upstream_says_is_no_format",
            "tests/test_errors.py::test_cleaned_words_are_one_short_line",
            "test_words_of_gateways.py::test_what_is_told_of_a_key_is_one_short_printable_line",
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
    "c15": Row(
        "What is counted and told by model, tenant and gateway is of a bounded number, and so are labels of metrics.",
        (
            "test_limit_growth.py::test_nothing_that_counts_grows_with_the_models_asked",
            "test_limit_growth.py::test_nor_does_what_is_known_of_a_shared_store",
            "test_growth.py::test_nor_does_one_with_many_tenants_keys_and_gateways",
        ),
        later="there are no metrics yet",
    ),
    "c16": Row(
        "Keys in a shared store are hashes: no name reaches what another has, and nothing that anybody chose is seen there.",
        (
            "test_store.py::test_nothing_that_anybody_chose_is_seen_in_a_shared_store",
            "test_store.py::test_no_name_reaches_what_another_has",
            "test_store.py::test_names_of_tenants_that_are_refused",
            "test_store.py::test_names_of_namespaces_that_are_refused",
            "test_store.py::test_the_store_asks_for_nothing_that_walks_through_the_server",
            "tests/store/test_redis.py::test_keys_hold_nothing_that_anybody_chose_and_all_expire",
            "tests/store/test_redis.py::test_namespaces_are_apart",
        ),
    ),
    "c17": Row(
        "What is read from a store is data, never code; checked, bounded in size, replaced where it is none of ours. The way"
        " there is not shown with its password.",
        (
            "test_supply.py::test_no_data_becomes_code",
            "test_store.py::test_scripts_are_never_made_of_what_they_are_given",
            "test_store.py::test_whatever_stands_for_the_catalogue_is_not_believed",
            "test_store.py::test_what_is_too_large_is_not_fetched",
            "test_store.py::test_a_seal_of_another_namespace_is_none",
            "test_store.py::test_no_object_and_no_line_shows_the_password_of_the_store",
            "test_store.py::test_no_frame_of_an_error_about_the_store_shows_its_password",
            "test_store.py::test_nor_does_one_that_the_server_makes",
            "tests/faults/test_store_values.py::test_whatever_stands_under_our_keys_is_replaced_and_counted",
            "tests/faults/test_store_values.py::test_no_value_makes_more_of_a_limit",
            "tests/store/test_redis.py::test_what_is_not_ours_is_no_reply",
        ),
    ),
    "c18": Row(
        "No call gets another's answer: not another tenant's, not after a fork, not on a connection with bytes left over.",
        (
            "test_tenants.py::test_what_arrives_late_or_in_pieces_reaches_no_other_tenant",
            "test_tenants.py::test_a_stream_given_up_by_one_is_not_read_by_the_other",
            "tests/test_tenants_facades.py::test_two_hundred_calls_at_once_are_never_mixed_up",
            "tests/test_tenants_facades.py::test_streams_side_by_side_are_never_mixed_up",
            "tests/test_transport_life.py::test_a_forked_client_answers_its_own_questions",
            "tests/test_transport.py::test_bytes_that_nobody_asked_for_answer_nothing",
        ),
    ),
    "c19": Row(
        "No tenant is taken for another, none is meant when none is named, and none has other keys than its own.",
        (
            "test_tenants.py::test_a_name_is_met_exactly_or_not_at_all",
            "test_tenants.py::test_who_names_no_tenant_gets_nobodys_key",
            "test_tenants.py::test_a_tenant_has_its_own_keys_and_no_others_whatever_befalls_them",
            "test_tenants.py::test_a_key_stays_with_its_gateway_whatever_is_left_of_the_gateways",
            "test_tenants.py::test_a_catalogue_refused_to_one_key_is_not_refused_to_another",
            "test_tenants.py::test_a_strategy_that_needs_the_catalogue_is_not_lamed_by_a_siblings_key",
            "test_tenants.py::test_a_key_that_was_refused_does_not_stand_for_those_that_were_not",
            "test_keys.py::test_nor_is_it_taken_for_a_tenants_name",
            "tests/test_tenants.py::test_the_clients_own_key_stands_in_for_nobodys",
            "tests/test_tenants_facades.py::test_what_befalls_one_tenants_key_the_other_does_not_notice",
        ),
    ),
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
            "test_env_files.py::test_no_key_of_the_environment_goes_to_an_address_that_only_the_file_names",
            "test_env_files.py::test_a_file_adds_no_key_to_those_of_the_environment",
            "test_env_files.py::test_nor_to_those_of_a_tenant",
            "test_env_files.py::test_what_an_empty_variable_leaves_open_the_file_may_say",
        ),
    ),
    "c22": Row(
        "Keys of tenants in the environment are read by an exact pattern; slips are reported, values never repeated.",
        (
            "test_tenant_variables.py::test_a_variable_is_met_by_the_whole_pattern",
            "test_tenant_variables.py::test_what_only_resembles_it_is_an_error",
            "test_tenant_variables.py::test_what_begins_otherwise_is_none_of_ours",
            "test_tenant_variables.py::test_a_name_of_any_length_is_refused_in_no_time_and_in_few_words",
            "test_tenant_variables.py::test_no_value_is_repeated",
            "test_tenant_variables.py::test_a_gap_between_numbered_tenants_is_reported",
            "test_tenant_variables.py::test_two_that_are_the_same_number_are_reported",
            "test_tenant_variables.py::test_one_key_of_two_tenants_is_reported",
            "test_tenant_variables.py::test_what_is_said_twice_must_be_the_same",
            "test_tenant_variables.py::test_nothing_is_reported_of_what_is_in_order",
        ),
    ),
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
        "What is kept for each model is bounded in number, each tenant has its share, and what is broken is not forgotten for what"
        " is new.",
        (
            "test_growth.py::test_a_client_does_not_grow_with_the_models_asked",
            "test_growth.py::test_nor_does_an_async_one",
            "test_growth.py::test_nor_does_one_with_many_tenants_keys_and_gateways",
            "test_growth.py::test_a_crowd_of_models_does_not_wash_an_open_breaker_away",
            "test_growth.py::test_breakers_whose_time_is_long_over_make_room",
            "test_growth.py::test_names_that_are_nobodys_leave_nothing_behind",
            "test_growth.py::test_clients_that_are_made_anew_for_each_request_are_forgotten",
            "test_growth.py::test_a_tenant_that_asks_for_everything_leaves_others_their_share",
            "test_growth.py::test_a_tenant_that_asks_for_everything_wakes_no_key_that_rests",
            "test_headers.py::test_ten_thousand_aliases_are_no_burden",
            "tests/test_health.py::test_memory_is_bounded_and_open_breakers_are_kept",
        ),
    ),
    "c25": Row(
        "No request gets past a budget, whatever it asks for, however many ask at once, whatever becomes of it.",
        (
            "test_budgets.py::test_whatever_is_asked_for_no_more_is_charged_than_the_budget",
            "test_budgets.py::test_what_nobody_can_tell_the_price_of_is_not_sent",
            "test_budgets.py::test_what_is_sent_is_what_was_weighed",
            "test_budgets.py::test_fifty_at_once_get_what_three_may_have",
            "test_budgets.py::test_what_was_not_answered_may_have_been_charged",
            "test_budgets.py::test_who_gives_up_early_is_charged_all_the_same",
            "test_budgets.py::test_a_gateway_that_tells_nonsense_of_the_cost_adds_nothing_to_the_budget",
            "test_budgets.py::test_no_other_client_of_the_same_has_a_budget_of_its_own",
            "tests/properties/test_budgets.py::test_no_more_is_spent_than_the_budgets_and_nothing_stays_held",
            "tests/faults/test_store_faults.py::test_money_is_closed_after_an_allowance",
        ),
    ),
    "c26": Row(
        "An unknown tenant cannot be told from one that is not allowed, and nobody is told who else there is.",
        (
            "test_tenants.py::test_an_unknown_tenant_cannot_be_told_from_a_siblings",
            "test_tenants.py::test_nothing_that_a_tenants_client_tells_names_another",
        ),
    ),
    "c27": Row(
        "What a gateway suggests adds no attempt, no model and no host.",
        (
            "test_words_of_gateways.py::test_a_gateway_orders_neither_attempts_nor_models_nor_hosts",
            "test_words_of_gateways.py::test_a_second_list_adds_no_host_and_no_cheaper_price",
        ),
    ),
    "c28": Row(
        "State is told as plain values. What is loaded of it, scores, is checked, and does no more than to order.",
        (
            "test_supply.py::test_no_data_becomes_code",
            "test_objects.py::test_a_client_does_not_travel",
            "test_score_file.py::test_nothing_in_its_place_is_followed_waited_for_or_read_to_its_end",
            "test_score_file.py::test_a_relative_folder_of_the_environment_is_none",
        ),
    ),
    "c29": Row(
        "A time to wait that is handed on is a float of at most a day.",
        (
            "test_words_of_gateways.py::test_retry_after_is_a_day_at_most",
            "test_bombs.py::test_the_longest_wait_is_a_day",
        ),
    ),
}
