"""What each CHECK of the schema asks for, in words: the `rule` of InvalidInput."""

from __future__ import annotations

__all__ = ["RULES"]

_QUALITY = {
    "resolution_format": "must be WIDTHxHEIGHT in pixels, such as 1920x1080",
    "fps_range": "must be above 0 and at most 1000",
    "codec_length": "must be 1 to 64 characters",
    "bitrate_kbps_range": "must be at least 0",
}

RULES = {
    "users_username_length": "must be 1 to 64 characters",
    "users_username_format": "must hold no control character and no white space at either end",
    "users_email_length": "must be 3 to 254 characters",
    "users_email_format": "must be an e-mail address, such as ann@example.org",
    "users_password_hash_format": "must be an argon2id hash in encoded form",
    "users_password_hash_length": "must be at most 512 characters",
    "users_display_name_length": "must be at most 128 characters",
    "users_avatar_url_length": "must be at most 2048 characters",
    "sessions_token_hash_length": "must be 32 bytes",
    "sessions_device_id_length": "must be at most 255 characters",
    "sessions_user_agent_length": "must be at most 1024 characters",
    "sessions_expires_at_order": "must lie after created_at",
    "streams_name_length": "must be 1 to 255 characters",
    "streams_description_length": "must be at most 10000 characters",
    "streams_stream_key_length": "must be 43 to 128 characters",
    "streams_stream_url_length": "must be at most 2048 characters",
    "streams_thumbnail_url_length": "must be at most 2048 characters",
    "streams_viewer_count_range": "must be at least 0",
    "streams_ended_at_order": "must not lie before started_at",
    "streams_started_at_required": "must be there while the stream is live",
    **{f"streams_{name}": rule for name, rule in _QUALITY.items()},
    "stream_sessions_total_viewers_range": "must be at least 0",
    "stream_sessions_peak_viewers_range": "must be at least 0 and at most total_viewers",
    "stream_sessions_total_bytes_sent_range": "must be at least 0",
    "stream_sessions_duration_seconds_range": "must be at least 0",
    "stream_sessions_duration_seconds_required": "must be there when the session has ended, and only then",
    "stream_sessions_session_end_order": "must not lie before session_start",
    "stream_sessions_recording_path_length": "must be 1 to 4096 characters",
    "recordings_file_path_length": "must be 1 to 2048 characters",
    "recordings_file_size_bytes_range": "must be at least 0",
    "recordings_duration_seconds_range": "must be at least 0",
    "recordings_expires_at_order": "must lie after created_at",
    **{f"recordings_{name}": rule for name, rule in _QUALITY.items()},
    "billing_accounts_payment_method_length": "must be 1 to 64 characters",
    "billing_accounts_subscription_tier_known": "must be free, pro or enterprise",
    "billing_accounts_monthly_limit_gb_range": "must be 0 to 1000000000",
    "usage_logs_event_type_format": "must be 1 to 64 of a-z, 0-9 and _, beginning with a letter",
    "usage_logs_bytes_transferred_range": "must be at least 0",
    "usage_logs_duration_seconds_range": "must be at least 0",
    "snapshots_version_range": "must be at least 1",
    "snapshots_schema_version_range": "must be at least 1",
}
