"""Helpers that the tests share: the fault server (`fault_server`) and the replies it can give (`replies`)."""
