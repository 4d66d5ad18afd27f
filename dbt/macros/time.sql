{# A timestamp, which is in UTC if it has no zone, in UTC without zone; on BigQuery, an instant. #}
{% macro utc(timestamp) -%}
  {{ adapter.dispatch('utc', 'unleash')(timestamp) }}
{%- endmacro %}

{# A cast of an instant would depend on the time zone of the connection. #}
{% macro default__utc(timestamp) -%}
  (to_timestamp(extract(epoch from {{ timestamp }})) at time zone 'UTC')
{%- endmacro %}

{% macro snowflake__utc(timestamp) -%}
  cast({{ timestamp }} as timestamp_ntz)
{%- endmacro %}

{% macro bigquery__utc(timestamp) -%}
  cast({{ timestamp }} as timestamp)
{%- endmacro %}

{# The start of the hour of a timestamp from `utc`, by the clocks of a time zone. #}
{% macro local_hour(timestamp, timezone) -%}
  {{ adapter.dispatch('local_hour', 'unleash')(timestamp, timezone) }}
{%- endmacro %}

{% macro default__local_hour(timestamp, timezone) -%}
  date_trunc('hour', {{ timestamp }} at time zone 'UTC' at time zone {{ timezone }})
{%- endmacro %}

{% macro snowflake__local_hour(timestamp, timezone) -%}
  date_trunc('hour', convert_timezone('UTC', {{ timezone }}, {{ timestamp }}))
{%- endmacro %}

{% macro bigquery__local_hour(timestamp, timezone) -%}
  datetime_trunc(extract(datetime from {{ timestamp }} at time zone {{ timezone }}), hour)
{%- endmacro %}
