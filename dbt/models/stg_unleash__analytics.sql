{% set frame = [] %}
{# The file is last, because only its name can contain the separator. #}
{% for column in ['device_id', 'session_id', 'model_id', 'frame_number', 'timestamp', 'source_file_name'] %}
  {% do frame.append("coalesce(cast(records." ~ column ~ " as " ~ dbt.type_string() ~ "), '')") %}
  {% do frame.append("'|'") if not loop.last %}
{% endfor %}

with copies as (
  select
    *,
    row_number() over (
      partition by record_id
      order by {{ var('unleash_loaded_at') }} desc, count desc
    ) as copy_number
  from {{ source('unleash', 'analytics') }}
),

records as (
  select
    record_id,
    device_id,
    session_id,
    model_id,
    source_file_name,
    class_name,
    count,
    cast(frame_number as {{ dbt.type_bigint() }}) as frame_number,
    {{ unleash.utc('timestamp') }} as timestamp
  from copies
  where copy_number = 1
)

select
  records.*,
  {{ dbt.hash(dbt.concat(frame)) }} as frame_id,
  metrics.class_name is not null as is_metric
from records
left join {{ ref('unleash_metrics') }} as metrics on records.class_name = metrics.class_name
