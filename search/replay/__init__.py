"""Replays recorded searches with other rules: what would each have spent, kept and lost?"""
