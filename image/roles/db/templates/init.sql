{% if mode == "semisync" %}
SET SESSION sql_log_bin = 0;
{% endif %}
-- Programs of ours, which run as the same user of the system.
CREATE USER IF NOT EXISTS 'mysql'@'localhost' IDENTIFIED VIA unix_socket;
ALTER USER 'mysql'@'localhost' IDENTIFIED VIA unix_socket;
GRANT ALL PRIVILEGES ON *.* TO 'mysql'@'localhost';
CREATE DATABASE IF NOT EXISTS {{ database }} CHARACTER SET utf8mb4;
{% for client in clients %}
CREATE USER IF NOT EXISTS '{{ user }}'@'{{ client.address }}';
ALTER USER '{{ user }}'@'{{ client.address }}' IDENTIFIED BY '{{ password }}' REQUIRE SUBJECT '/CN={{ client.name }}';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON {{ database }}.* TO '{{ user }}'@'{{ client.address }}';
{% endfor %}
CREATE USER IF NOT EXISTS 'prometheus'@'localhost' IDENTIFIED VIA unix_socket WITH MAX_USER_CONNECTIONS 3;
GRANT PROCESS, REPLICATION CLIENT, SLAVE MONITOR ON *.* TO 'prometheus'@'localhost';
{% for address in greeted %}
CREATE USER IF NOT EXISTS 'check'@'{{ address }}' ACCOUNT LOCK;
{% endfor %}
{% if mode == "semisync" %}
{% for other in others %}
CREATE USER IF NOT EXISTS 'replica'@'{{ other.address }}' REQUIRE SUBJECT '/CN={{ other.name }}';
GRANT REPLICATION SLAVE ON *.* TO 'replica'@'{{ other.address }}';
{% endfor %}
{% endif %}
