with sessions as (
  select distinct session_id from {{ source('unleash', 'sessions') }}
),

records as (
  select
    session_id,
    device_id,
    model_id,
    frame_id,
    timestamp,
    case when not is_metric then class_name end as detected_class
  from {{ ref('stg_unleash__analytics') }}
)

select
  sessions.session_id,
  records.device_id,
  records.model_id,
  min(records.timestamp) as first_record_at,
  max(records.timestamp) as last_record_at,
  count(records.session_id) as records,
  count(distinct records.frame_id) as frames,
  {# Snowflake lists nothing as an empty string. #}
  nullif({{ dbt.listagg('distinct records.detected_class', "', '", 'order by records.detected_class') }}, '') as classes
from sessions
left join records on sessions.session_id = records.session_id
group by sessions.session_id, records.device_id, records.model_id
